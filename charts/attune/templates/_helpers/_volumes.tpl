{{/*
Which volumes a component has. Every entry is mounted where /etc/attune or /var/lib/attune says what it is.
dict "root" $ "key" "policy" "values" (its values)
*/}}
{{- define "attune.usesEvents" -}}
{{- if has .key (list "policy" "ingest" "join") -}}yes{{- end -}}
{{- end -}}

{{- define "attune.usesRegistry" -}}
{{- if ne .key "ingest" -}}yes{{- end -}}
{{- end -}}

{{- define "attune.mountsData" -}}
{{- $events := and (include "attune.usesEvents" .) (include "attune.eventsAreEmbedded" .root) -}}
{{- if or $events (and (eq .key "join") (include "attune.databaseIsEmbedded" .root)) -}}yes{{- end -}}
{{- end -}}

{{- define "attune.volumes" -}}
{{- $v := .root.Values -}}
- name: settings
  configMap:
    name: {{ include "attune.object" . }}
- name: keys
  secret:
    secretName: {{ include "attune.keysSecret" .root }}
    defaultMode: 0440
    items:
      - {key: {{ $v.auth.secretKeys.keys | quote }}, path: keys.json}
      {{- if eq .key "trainer" }}
      - {key: {{ $v.auth.secretKeys.trainerApp | quote }}, path: trainer-app.key}
      - {key: {{ $v.auth.secretKeys.trainerControl | quote }}, path: trainer-control.key}
      {{- end }}
{{- if and (eq .key "ingest") $v.ingest.tokenKeysSecret.name }}
- name: token-keys
  secret:
    secretName: {{ $v.ingest.tokenKeysSecret.name }}
    defaultMode: 0440
    items:
      - {key: {{ $v.ingest.tokenKeysSecret.key | quote }}, path: token-keys.json}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .values.tmpSize }}
{{- if $v.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "attune.tlsSecret" . }}
    defaultMode: 0440
    items:
      - {key: {{ $v.tls.secretKeys.certificate | quote }}, path: tls.crt}
      - {key: {{ $v.tls.secretKeys.key | quote }}, path: tls.key}
      - {key: {{ $v.tls.secretKeys.authority | quote }}, path: ca.crt}
{{- end }}
{{- if and (include "attune.usesEvents" .) (not (include "attune.eventsAreEmbedded" .root)) }}
{{- include "attune.volumes.kafka" .root }}
{{- end }}
{{- if and (eq .key "join") (not (include "attune.databaseIsEmbedded" .root)) }}
- name: postgresql
  secret:
    secretName: {{ $v.postgresql.passwordSecret.name }}
    defaultMode: 0440
    items:
      - {key: {{ $v.postgresql.passwordSecret.key | quote }}, path: password}
{{- with $v.postgresql.authoritySecret }}
{{- if .name }}
- name: postgresql-authority
  secret:
    secretName: {{ .name }}
    items:
      - {key: {{ .key | quote }}, path: ca.crt}
{{- end }}
{{- end }}
{{- end }}
{{- if include "attune.mountsData" . }}
- name: data
  persistentVolumeClaim:
    claimName: {{ $v.embedded.volume.existingClaim | default (printf "%s-data" (include "attune.fullname" .root)) }}
{{- end }}
{{- if and (include "attune.usesRegistry" .) (include "attune.registryIsVolume" .root) }}
- name: registry
  persistentVolumeClaim:
    claimName: {{ $v.registry.volume.existingClaim | default (printf "%s-registry" (include "attune.fullname" .root)) }}
{{- end }}
{{- if has .key (list "policy" "reward") }}
- name: cache
  emptyDir:
    sizeLimit: {{ .values.cacheSize }}
{{- end }}
{{- if and (hasKey .values "gpu") (gt (int (dig "gpu" "count" 0 .values)) 0) }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ .values.gpu.sharedMemory }}
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "attune.volumes.kafka" -}}
{{- $kafka := .Values.kafka }}
{{- if $kafka.sasl.mechanism }}
- name: kafka-password
  secret:
    secretName: {{ $kafka.sasl.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ $kafka.sasl.passwordKey | quote }}, path: password}
{{- end }}
{{- if and $kafka.tls.enabled $kafka.tls.authoritySecret.name }}
- name: kafka-authority
  secret:
    secretName: {{ $kafka.tls.authoritySecret.name }}
    items:
      - {key: {{ $kafka.tls.authoritySecret.key | quote }}, path: ca.crt}
{{- end }}
{{- if and $kafka.tls.enabled $kafka.tls.clientSecret.name }}
- name: kafka-client
  secret:
    secretName: {{ $kafka.tls.clientSecret.name }}
    defaultMode: 0440
    items:
      - {key: {{ $kafka.tls.clientSecret.certificateKey | quote }}, path: tls.crt}
      - {key: {{ $kafka.tls.clientSecret.keyKey | quote }}, path: tls.key}
{{- end }}
{{- end -}}

{{/* Mounts follow from the volumes, so that neither is without the other. */}}
{{- define "attune.mounts" -}}
{{- range include "attune.volumes" . | fromYamlArray }}
{{- $path := get (include "attune.paths" $ | fromYaml) .name }}
{{- if $path }}
- name: {{ .name }}
  mountPath: {{ $path }}
  {{- if or (hasPrefix "/etc/" $path) (and (eq .name "registry") (ne $.key "trainer")) }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "attune.paths" -}}
settings: /etc/attune/settings
keys: /etc/attune/keys
token-keys: /etc/attune/token-keys
tls: /etc/attune/tls
kafka-password: /etc/attune/kafka-password
kafka-authority: /etc/attune/kafka-authority
kafka-client: /etc/attune/kafka-client
postgresql: /etc/attune/postgresql
postgresql-authority: /etc/attune/postgresql-authority
tmp: /tmp
data: /var/lib/attune/data
registry: /var/lib/attune/registry
cache: /var/cache/attune
shared-memory: /dev/shm
{{- end -}}

{{/* A claim of the chart's own. dict "root" $ "name" "data" "volume" (its values) */}}
{{- define "attune.claim" -}}
{{- if not .volume.existingClaim }}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "attune.fullname" .root }}-{{ .name }}
  labels: {{- include "attune.releaseLabels" .root | nindent 4 }}
  annotations:
    # What people said and what was learned from it outlives the release.
    helm.sh/resource-policy: keep
spec: {{- include "attune.claimSpec" .volume | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "attune.claimSpec" -}}
accessModes: [{{ .accessMode }}]
{{- with .storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end -}}
