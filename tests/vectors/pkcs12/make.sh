#!/bin/sh
# Writes the keystores of this directory anew: other keys, so other vectors. Needs openssl 3 and keytool.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '1234qwer\n' > "$work/password"
name=subjectAltName=DNS:localhost,IP:127.0.0.1
ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 36500"
# shellcheck disable=SC2086
{
  openssl req -x509 $ec -subj /CN=localhost -addext "$name" -keyout "$work/key" -out "$work/cert"
  openssl req -x509 $ec -subj /CN=Root -keyout "$work/root.key" -out "$work/root"
  openssl req $ec -x509 -CA "$work/root" -CAkey "$work/root.key" -subj /CN=Issuing \
    -addext basicConstraints=critical,CA:TRUE -keyout "$work/ca.key" -out "$work/ca"
  openssl req $ec -x509 -CA "$work/ca" -CAkey "$work/ca.key" -subj /CN=localhost -addext "$name" \
    -addext basicConstraints=CA:FALSE -keyout "$work/leaf.key" -out "$work/leaf"
} 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
cat "$work/root" "$work/ca" > "$work/above"
pass="-passout file:$work/password"
# shellcheck disable=SC2086
{
  openssl pkcs12 -export $pass -inkey "$work/key" -in "$work/cert" -out openssl.p12
  openssl pkcs12 -export $pass -legacy -inkey "$work/key" -in "$work/cert" -out openssl-legacy.p12
  openssl pkcs12 -export $pass -inkey "$work/leaf.key" -in "$work/leaf" -certfile "$work/above" \
    -out openssl-chain.p12
}
for form in "" -J-Dkeystore.pkcs12.legacy; do
  file=keytool${form:+-legacy}.p12
  rm -f "$file"
  # shellcheck disable=SC2086
  keytool $form -genkeypair -keystore "$file" -storetype PKCS12 -storepass:file "$work/password" \
    -alias zoo -keyalg EC -groupname secp256r1 -dname CN=localhost -validity 36500 -ext "san=dns:localhost"
done
