{{/*
Network policies: each component names who may call which of its ports, and whom it calls. Control ports are closed to
apps. Probes come from the node, which no policy keeps out.
*/}}

{{/* Pods of components. dict "root" $ "keys" (list "trainer") */}}
{{- define "attune.peers" -}}
{{- range .keys }}
- podSelector:
    matchLabels:
      {{- include "attune.releaseSelector" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ include "attune.component" . }}
{{- end }}
{{- end -}}

{{/* One rule; without peers there is none, for an empty `from` would let everybody in. dict "port" 1 "from" (list) */}}
{{- define "attune.ingress.rule" -}}
{{- if and .port .from }}
- ports:
    - {port: {{ .port }}}
  from: {{- toYaml .from | nindent 4 }}
{{- end }}
{{- end -}}

{{/* dict "root" $ "key" "policy" "isForApps" true "appKeys" "controlKeys": which components may call those ports. */}}
{{- define "attune.ingress" -}}
{{- $ports := include "attune.openPorts" . | fromJson -}}
{{- $v := .root.Values.networkPolicy -}}
{{- $apps := .isForApps | ternary $v.apps list -}}
{{- $appPeers := include "attune.peers" (dict "root" .root "keys" .appKeys) | fromYamlArray -}}
{{- $controlPeers := include "attune.peers" (dict "root" .root "keys" .controlKeys) | fromYamlArray -}}
{{- include "attune.ingress.rule" (dict "port" $ports.app "from" (concat $appPeers $apps)) -}}
{{- include "attune.ingress.rule" (dict "port" $ports.http "from" $apps) -}}
{{- include "attune.ingress.rule" (dict "port" $ports.control "from" (concat $controlPeers $v.operators)) -}}
{{- include "attune.ingress.rule" (dict "port" $ports.metrics "from" $v.metrics) -}}
{{- end -}}

{{/* Egress to others of this release. dict "root" $ "to" (dict "policy" (list "app" "control")) */}}
{{- define "attune.egress.components" -}}
{{- range $key, $names := .to }}
- to: {{- include "attune.peers" (dict "root" $.root "keys" (list $key)) | trim | nindent 4 }}
  ports:
    {{- $ports := include "attune.openPorts" (dict "root" $.root "key" $key) | fromJson }}
    {{- range $names }}
    - {port: {{ index $ports . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "attune.egress.dns" -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
  {{- with .Values.networkPolicy.dns }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "attune.egress.kafka" -}}
{{- $ports := list -}}
{{- range splitList "," .Values.kafka.bootstrap -}}
{{- $ports = append $ports (splitList ":" . | last | int) -}}
{{- end -}}
- ports:
    {{- range $ports | uniq }}
    - {port: {{ . }}}
    {{- end }}
  {{- with .Values.networkPolicy.kafka }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "attune.egress.objectStore" -}}
{{- $endpoint := .Values.registry.s3.endpoint | default "https://s3" -}}
{{- $host := (urlParse $endpoint).host -}}
{{- $port := contains ":" $host | ternary (splitList ":" $host | last | int) (hasPrefix "http://" $endpoint | ternary 80 443) -}}
- ports:
    - {port: {{ $port }}}
  {{- with .Values.networkPolicy.objectStore }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/*
dict "root" $ "key" "policy" "appKeys" (list) "controlKeys" (list) "isForApps" true "calls" (dict)
*/}}
{{- define "attune.networkPolicy" -}}
{{- if .root.Values.networkPolicy.enabled -}}
{{- $c := set . "values" (include "attune.values" . | fromJson) -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "attune.object" . }}
  labels: {{- include "attune.labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "attune.selector" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress: {{- include "attune.ingress" . | trim | nindent 4 }}
  egress:
    {{- include "attune.egress.dns" .root | nindent 4 }}
    {{- with include "attune.egress.components" (dict "root" .root "to" .calls) | trim }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- if and (include "attune.usesEvents" .) (not (include "attune.eventsAreEmbedded" .root)) }}
    {{- include "attune.egress.kafka" .root | nindent 4 }}
    {{- end }}
    {{- if and (include "attune.usesRegistry" .) (not (include "attune.registryIsVolume" .root)) }}
    {{- include "attune.egress.objectStore" .root | nindent 4 }}
    {{- end }}
    {{- if and (eq .key "join") (not (include "attune.databaseIsEmbedded" .root)) }}
    - ports:
        - {port: {{ .root.Values.postgresql.port }}}
      {{- with .root.Values.networkPolicy.postgresql }}
      to: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- if include "attune.callsKubernetes" . }}
    - ports:
        - {port: 443}
        - {port: 6443}
      {{- with .root.Values.networkPolicy.kubernetes }}
      to: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    {{- with $c.values.extraEgress }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
{{- end -}}
