"""Files of Cluster Serving as its users have them, each with a password in it."""

CANARY = "hunter2-canary"

FLAT = f"""\
## Analytics-zoo Cluster Serving
# modelPath must be provided
modelPath: /opt/work/model

jobName: mobilenet_job
postProcessing: "topN(5)"
imageResize: "224,224"
inputAlreadyBatched: false
coreNumberPerMachine: 4
modelParallelism: 2
threadPerModel: 3
performance_mode: 1
flinkRestUrl: localhost:8081
redisUrl: "redis://:{CANARY}@localhost:6379"
redisMaxMemory: 8g
redisTimeout: 5000
redisSecureEnabled: true
redisSecureTrustStorePath: /opt/keys/keystore.jks
redisSecureTrustStorePassword: {CANARY}
modelEncrypted: true
recordEncrypted: false
queueUsed: redis
kafkaUrl: localhost:9092
"""

NESTED = f"""\
model:
  # model path must be set
  path: /opt/work/model
  name: resnet
data:
  # default, localhost:6379
  src:
  filter: topN(3)
params:
  core_number: 8
  model_number: 2
  performance_mode:
flink:
  rest: localhost:8081
redis:
  maxmem: 4g
  timeout: 5000
secure:
  secure_enabled: true
  secure_trust_store_path: /opt/keys/keystore.jks
  secure_struct_store_password: {CANARY}
  model_encrypted: true
"""

SERVED = f"""\
---
modelMetaDataList:
 - !<ClusterServingMetaData>
    modelName: "first-model"
    modelVersion: "1.0"
    redisHost: "localhost"
    redisPort: "6381"
    redisInputQueue: "serving_stream2"
    redisOutputQueue: "cluster-serving_serving_stream2:"
    timeWindow: 0
    countWindow: 56
    tokenBucketEnabled: true
    tokensPerSecond: 30
    redisSecureEnabled: false
    redisTrustStorePath: null
    redisTrustStoreToken: {CANARY}
    inputCompileType: direct
    features:
      - a
      - "b"
 - !<InferenceModelMetaData>
    modelName: "second-model"
    modelVersion: "2"
    modelPath: "/models/second.xml"
    modelType: "OpenVINO"
    weightPath: "/models/second.bin"
    modelConCurrentNum: 3
    inputCompileType: direct
    features:
      - image
"""
