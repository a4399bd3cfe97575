{{/*
The settings of a service as a TOML file. What the chart itself decides (ports, files, addresses) comes from
attune.<key>.settings; `settings` of the component adds to it and may not contradict it.
dict "root" $ "key" "policy" "values" (its values)
*/}}
{{- define "attune.settings" -}}
{{- $own := include (printf "attune.%s.settings" .key) . | fromYaml -}}
{{- include "attune.settings.lines" (dict "settings" $own "prefix" "") -}}
{{- include "attune.settings.refuseOverlap" (dict "own" $own "given" .values.settings "key" .key "prefix" "") -}}
{{- include "attune.settings.lines" (dict "settings" .values.settings "prefix" "") -}}
{{- end -}}

{{- define "attune.settings.lines" -}}
{{- range $name, $value := .settings -}}
{{- if kindIs "map" $value -}}
{{- include "attune.settings.lines" (dict "settings" $value "prefix" (printf "%s%s." $.prefix $name)) -}}
{{- else }}
{{ $.prefix }}{{ $name }} = {{ $value | toJson }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "attune.settings.refuseOverlap" -}}
{{- range $name, $value := .given -}}
{{- if hasKey $.own $name -}}
{{- $set := index $.own $name -}}
{{- if and (kindIs "map" $value) (kindIs "map" $set) -}}
{{- include "attune.settings.refuseOverlap" (dict "own" $set "given" $value "key" $.key "prefix" (printf "%s%s." $.prefix $name)) -}}
{{- else -}}
{{- fail (printf "%s.settings.%s%s is decided by the chart from other values; take it out" $.key $.prefix $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of every service. */}}
{{- define "attune.settings.common" -}}
{{- $ports := include "attune.openPorts" . | fromJson -}}
log_level: {{ .values.logLevel }}
metrics_host: {{ .root.Values.listenHost | quote }}
metrics_port: {{ $ports.metrics }}
health_host: {{ .root.Values.listenHost | quote }}
health_port: {{ $ports.health }}
keys_file: /etc/attune/keys/keys.json
{{- range $port := list "app" "control" "http" }}
{{- with index $ports $port }}
{{ $port }}:
  host: {{ $.root.Values.listenHost | quote }}
  port: {{ . }}
  {{- if eq $port "http" }}
  origins: {{ index $.root.Values $.key "http" "origins" | join "," | quote }}
  {{- if dig "tokenKeysSecret" "name" "" $.values }}
  token_keys_file: /etc/attune/token-keys/token-keys.json
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}
{{- if .root.Values.tls.enabled }}
tls:
  cert_file: /etc/attune/tls/tls.crt
  key_file: /etc/attune/tls/tls.key
  {{- if .root.Values.tls.clientCertificates }}
  client_ca_file: /etc/attune/tls/ca.crt
  {{- end }}
{{- end }}
{{- end -}}

{{- define "attune.settings.registry" -}}
registry: {{ .Values.registry.url | default "/var/lib/attune/registry" | quote }}
{{- end -}}

{{/* Of a service that uses the event log. The user's name and the password come from a Secret. */}}
{{- define "attune.settings.events" -}}
{{- $kafka := .Values.kafka -}}
{{- if include "attune.eventsAreEmbedded" . -}}
events_folder: /var/lib/attune/data/events
{{- else -}}
kafka:
  bootstrap: {{ $kafka.bootstrap | quote }}
  topic_prefix: {{ $kafka.topicPrefix | quote }}
  {{- if $kafka.tls.enabled }}
  tls: true
  {{- if $kafka.tls.authoritySecret.name }}
  ca_file: /etc/attune/kafka-authority/ca.crt
  {{- end }}
  {{- if $kafka.tls.clientSecret.name }}
  cert_file: /etc/attune/kafka-client/tls.crt
  key_file: /etc/attune/kafka-client/tls.key
  {{- end }}
  {{- end }}
  {{- if $kafka.sasl.mechanism }}
  mechanism: {{ $kafka.sasl.mechanism }}
  password_file: /etc/attune/kafka-password/password
  {{- end }}
{{- end }}
{{- end -}}
