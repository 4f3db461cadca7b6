{{/*
The id of the Kafka cluster: 16 bytes in base64url without padding, made from release and namespace, so that it is the same at
every upgrade and after a reinstallation on kept claims. The bytes are hexadecimal digits: none of their encodings begins with a dash.
Takes the root context.
*/}}
{{- define "portolan.infra.kafkaClusterId" -}}
{{- printf "%s/%s" .Release.Namespace .Release.Name | sha256sum | trunc 16 | b64enc | trimSuffix "==" -}}
{{- end -}}

{{/* Kafka's configuration, as the data of a ConfigMap. Takes the root context. */}}
{{- define "portolan.infra.kafkaConfig" -}}
{{- $replicas := int .Values.kafka.bundled.replicas -}}
{{- $name := include "portolan.name" (dict "ctx" . "component" "kafka") -}}
{{- $voters := list "0@localhost:9094" -}}
{{- if gt $replicas 1 -}}
{{- $voters = list -}}
{{- range $number := until $replicas -}}
{{- $voters = append $voters (printf "%d@%s-%d.%s.%s.svc.%s:9094" $number $name $number $name $.Release.Namespace $.Values.global.clusterDomain) -}}
{{- end -}}
{{- end -}}
{{- $copies := min 3 $replicas -}}
{{- $insync := ternary 2 1 (gt $replicas 1) -}}
server.properties: |
  # node.id, listeners and advertised.listeners come from the environment of the pod.
  process.roles=broker,controller
  controller.quorum.voters={{ join "," $voters }}
  controller.listener.names=CONTROLLER
  # Not called SSL: the image would ask for key stores with passwords then.
  listener.security.protocol.map=MTLS:SSL,CONTROLLER:SSL
  inter.broker.listener.name=MTLS

  ssl.client.auth=required
  ssl.enabled.protocols=TLSv1.3
  ssl.keystore.type=PEM
  ssl.keystore.location=/etc/kafka/tls/bundle.pem
  ssl.truststore.type=PEM
  ssl.truststore.location=/etc/portolan-ca/ca.crt
  # Who somebody is: the common name of the certificate. Vault gives out none but a workload's own.
  ssl.principal.mapping.rules=RULE:^CN=([a-z0-9-]+)(,.*)?$/$1/,DEFAULT
  authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
  super.users=User:{{ $name }}
  allow.everyone.if.no.acl.found=false

  auto.create.topics.enable=false
  num.partitions={{ .Values.kafka.partitions }}
  default.replication.factor={{ $copies }}
  min.insync.replicas={{ $insync }}
  offsets.topic.replication.factor={{ $copies }}
  offsets.topic.num.partitions=12
  # Longer than the topics are kept.
  offsets.retention.minutes=20160
  transaction.state.log.replication.factor={{ $copies }}
  transaction.state.log.min.isr={{ $insync }}
  transaction.state.log.num.partitions=4
  share.coordinator.state.topic.replication.factor={{ $copies }}
  share.coordinator.state.topic.min.isr={{ $insync }}
  # No waiting for stragglers: a group is as large as a service has replicas.
  group.initial.rebalance.delay.ms=0
  # A broker that was killed cannot come back before its session is over.
  broker.session.timeout.ms=6000
  broker.heartbeat.interval.ms=1500

  log.dirs=/var/lib/kafka/data
  {{- range $name, $value := .Values.kafka.bundled.properties }}
  {{ $name }}={{ $value }}
  {{- end }}
{{- end -}}
