{{/* Objects that every component has alike. Each takes dict "root" $ "key" "policy". */}}

{{- define "attune.deployment" -}}
{{- $c := set . "values" (include "attune.values" . | fromJson) -}}
{{- $v := $c.values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "attune.object" $c }}
  labels: {{- include "attune.labels" $c | nindent 4 }}
spec:
  {{- if not (dig "autoscaling" "enabled" false $v) }}
  replicas: {{ hasKey $v "replicas" | ternary $v.replicas 1 | int }}
  {{- end }}
  revisionHistoryLimit: 3
  # Counted until the new pods are ready, so beyond the start-up budget of one.
  progressDeadlineSeconds: {{ add $v.startupSeconds 120 }}
  strategy: {{- include "attune.strategy" $c | nindent 4 }}
  selector:
    matchLabels: {{- include "attune.selector" $c | nindent 6 }}
  template: {{- include "attune.pod" $c | nindent 4 }}
{{- end -}}

{{/* Embedded files have one writer, and the join is one reader: there the old pod ends first. */}}
{{- define "attune.strategy" -}}
{{- if or (eq .key "join") (and (include "attune.usesEvents" .) (include "attune.eventsAreEmbedded" .root)) -}}
type: Recreate
{{- else -}}
type: RollingUpdate
rollingUpdate: {{- toYaml .values.rollingUpdate | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "attune.configMap" -}}
{{- $c := set . "values" (include "attune.values" . | fromJson) -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "attune.object" $c }}
  labels: {{- include "attune.labels" $c | nindent 4 }}
data:
  settings.toml: |
    {{- include "attune.settings" $c | trim | nindent 4 }}
{{- end -}}

{{- define "attune.serviceAccount" -}}
{{- $own := (index .root.Values .key).serviceAccount -}}
{{- if $own.create -}}
{{- $own.name | default (include "attune.object" .) -}}
{{- else -}}
{{- $own.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "attune.serviceAccountObject" -}}
{{- $own := (index .root.Values .key).serviceAccount -}}
{{- if $own.create -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "attune.serviceAccount" . }}
  labels: {{- include "attune.labels" . | nindent 4 }}
  {{- with $own.annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/* Only the trainer may call the API server, and only for its Lease. */}}
{{- define "attune.callsKubernetes" -}}
{{- if and (eq .key "trainer") .root.Values.trainer.lease.enabled -}}yes{{- end -}}
{{- end -}}

{{- define "attune.podDisruptionBudget" -}}
{{- $c := set . "values" (include "attune.values" . | fromJson) -}}
{{- $replicas := dig "autoscaling" "enabled" false $c.values | ternary (dig "autoscaling" "minReplicas" 1 $c.values) (get $c.values "replicas" | default 1) -}}
{{- if gt (int $replicas) 1 -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "attune.object" $c }}
  labels: {{- include "attune.labels" $c | nindent 4 }}
spec:
  maxUnavailable: 1
  # A pod that does not get well must not hold up the drain of a node.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "attune.selector" $c | nindent 6 }}
{{- end -}}
{{- end -}}

{{/* Of apps: every pod that is ready has a record, and gRPC balances over them. */}}
{{- define "attune.appService" -}}
{{- $port := (include "attune.openPorts" . | fromJson).app -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "attune.object" . }}
  labels: {{- include "attune.labels" . | nindent 4 }}
spec:
  clusterIP: None
  selector: {{- include "attune.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ $port }}, targetPort: app, appProtocol: grpc}
{{- end -}}

{{/* Of apps that speak HTTP, whose clients do not balance by themselves. */}}
{{- define "attune.httpService" -}}
{{- with (include "attune.openPorts" . | fromJson).http -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "attune.object" $ }}-http
  labels: {{- include "attune.labels" $ | nindent 4 }}
spec:
  selector: {{- include "attune.selector" $ | nindent 4 }}
  ports:
    - {name: http, port: {{ . }}, targetPort: http, appProtocol: {{ $.root.Values.tls.enabled | ternary "https" "http" }}}
{{- end -}}
{{- end -}}

{{/* Of the other services, of operators and of Prometheus: also pods that are not ready are asked. */}}
{{- define "attune.internalService" -}}
{{- $ports := include "attune.openPorts" . | fromJson -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "attune.object" . }}-internal
  labels:
    {{- include "attune.labels" . | nindent 4 }}
    attune/component: {{ .key }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{- include "attune.selector" . | nindent 4 }}
  ports:
    {{- with $ports.control }}
    - {name: control, port: {{ . }}, targetPort: control, appProtocol: grpc}
    {{- end }}
    - {name: metrics, port: {{ $ports.metrics }}, targetPort: metrics, appProtocol: http}
{{- end -}}
