{{/*
The pod of a component: restricted, with probes on the health port, its settings from a file and nothing it does not
need. dict "root" $ "key" "policy" "values" (its values)
*/}}
{{- define "attune.pod" -}}
{{- $v := .values -}}
metadata:
  labels:
    {{- include "attune.labels" . | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ include "attune.component" .key }}
    # A changed setting is a changed pod.
    attune/settings: {{ include "attune.settings" . | sha256sum | trunc 16 | quote }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "attune.serviceAccount" . }}
  automountServiceAccountToken: {{ eq (include "attune.callsKubernetes" .) "yes" }}
  # Otherwise every Service of the namespace is a variable, some of which read like settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int $v.drainSeconds }}
  securityContext: {{- toYaml $v.podSecurityContext | nindent 4 }}
  {{- include "attune.pullSecrets" .root | nindent 2 }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $v.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with $v.schedulerName }}
  schedulerName: {{ . }}
  {{- end }}
  {{- with $v.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- include "attune.placement" . | nindent 2 }}
  containers:
    - name: {{ include "attune.component" .key }}
      image: {{ include "attune.image" (dict "root" .root "image" (include "attune.imageOf" .key)) }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [attune]
      args:
        {{- range splitList "-" (include "attune.component" .key) }}
        - {{ . }}
        {{- end }}
        - --config
        - /etc/attune/settings/settings.toml
      securityContext: {{- toYaml $v.containerSecurityContext | nindent 8 }}
      {{- with include "attune.environment" . | trim }}
      env: {{- . | nindent 8 }}
      {{- end }}
      {{- with $v.extraEnvFrom }}
      envFrom: {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range $name, $port := include "attune.openPorts" . | fromJson }}
        - name: {{ $name }}
          containerPort: {{ $port }}
        {{- end }}
      {{- include "attune.probes" . | nindent 6 }}
      resources: {{- include "attune.resources" . | nindent 8 }}
      volumeMounts: {{- include "attune.mounts" . | trim | nindent 8 }}
        {{- if eq .key "trainer" }}
        - name: state
          mountPath: /var/lib/attune/state
        {{- end }}
  volumes: {{- include "attune.volumes" . | trim | nindent 4 }}
{{- end -}}

{{/* Liveness is the process; readiness is what it serves: a policy without a revision lives and is not ready. */}}
{{- define "attune.probes" -}}
{{- $health := (include "attune.openPorts" . | fromJson).health -}}
startupProbe:
  grpc: {port: {{ $health }}, service: liveness}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: {{ include "attune.startupLooks" .values }}
livenessProbe:
  grpc: {port: {{ $health }}, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: {port: {{ $health }}, service: readiness}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{- define "attune.gpus" -}}
{{- dig "gpu" "count" 0 .values | int -}}
{{- end -}}

{{- define "attune.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if gt (include "attune.gpus" . | int) 0 -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- $_ := set $limits .values.gpu.resource (include "attune.gpus" . | int) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* Tolerations, affinity, spread. */}}
{{- define "attune.placement" -}}
{{- $v := .values -}}
{{- $tolerations := $v.tolerations -}}
{{- if gt (include "attune.gpus" . | int) 0 -}}
{{- $tolerations = append $tolerations (dict "key" $v.gpu.resource "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $affinity := deepCopy $v.affinity -}}
{{- if include "attune.isOneNode" .root -}}
{{- $same := dict "labelSelector" (dict "matchLabels" (include "attune.releaseSelector" .root | fromYaml)) "topologyKey" "kubernetes.io/hostname" -}}
{{- $podAffinity := get $affinity "podAffinity" | default dict -}}
{{- $required := get $podAffinity "requiredDuringSchedulingIgnoredDuringExecution" | default list -}}
{{- $_ := set $podAffinity "requiredDuringSchedulingIgnoredDuringExecution" (append $required $same) -}}
{{- $_ := set $affinity "podAffinity" $podAffinity -}}
{{- end }}
{{- with $affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- if gt (int (get $v "replicas" | default 1)) 1 }}
topologySpreadConstraints:
  {{- if $v.topologySpreadConstraints }}
  {{- toYaml $v.topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "attune.selector" . | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Variables: secrets that the code takes from nowhere else, and the object store's own. */}}
{{- define "attune.environment" -}}
{{- if and (include "attune.usesEvents" .) .root.Values.kafka.bootstrap .root.Values.kafka.sasl.mechanism }}
- name: ATTUNE_{{ upper .key }}_KAFKA__USERNAME
  valueFrom:
    secretKeyRef:
      name: {{ .root.Values.kafka.sasl.existingSecret }}
      key: {{ .root.Values.kafka.sasl.usernameKey }}
{{- end }}
{{- if has .key (list "policy" "reward" "trainer") }}
# No model comes from a hub: revisions lie in the registry.
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- if include "attune.usesRegistry" . }}
{{- include "attune.environment.objectStore" .root }}
{{- end }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "attune.environment.objectStore" -}}
{{- $s3 := .Values.registry.s3 -}}
{{- if hasPrefix "s3://" .Values.registry.url }}
{{- with $s3.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with $s3.region }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
{{- if $s3.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ $s3.existingSecret }}, key: {{ $s3.accessKeyIdKey | quote }}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ $s3.existingSecret }}, key: {{ $s3.secretAccessKeyKey | quote }}}
{{- end }}
{{- end }}
{{- end -}}
