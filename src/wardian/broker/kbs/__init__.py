"""The KBS protocol of Confidential Containers' Trustee, beside our own release: interoperation."""
