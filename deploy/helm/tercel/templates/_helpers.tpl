{{- define "tercel.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tercel.services" -}}
ingress enricher sink reconciler{{ if .Values.console.enabled }} console{{ end }}
{{- end }}

{{/* What selects the pods of one service: (dict "root" $ "service" NAME). */}}
{{- define "tercel.selector" -}}
app.kubernetes.io/name: tercel
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "tercel.labels" -}}
{{ include "tercel.selector" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The pipeline file: the values' with what the chart decides. */}}
{{- define "tercel.pipeline" -}}
{{- $own := dict "nats" (dict "url" .Values.nats.url) "ingress" (dict "listen" ":8080") "telemetry" (dict "listen" ":9464") }}
{{- if .Values.nats.seeds }}{{ $_ := set $own.nats "nkey" "/run/nats/nats.nk" }}{{ end }}
{{- if .Values.nats.ca }}{{ $_ := set $own.nats "ca" "/run/nats/ca.crt" }}{{ end }}
{{- if .Values.setup.enabled }}{{ $_ := set $own "streams" (dict "setup" "command") }}{{ end }}
{{- if .Values.console.enabled }}
{{- if not (dig "console" "tokens" dict .Values.pipeline) }}{{ fail "pipeline.console.tokens: missing, want at least one token, or console.enabled: false" }}{{ end }}
{{- $_ := set $own "console" (dict "listen" ":8089") }}
{{- end }}
{{- range $name, $d := get .Values.pipeline "destinations" | default dict }}
{{- if or (hasKey $d "sqlite") (hasKey $d "files") }}{{ fail (printf "pipeline.destinations.%s: a file, want a kind that is not on the pod's own disk" $name) }}{{ end }}
{{- end }}
{{- toYaml (mustMergeOverwrite (deepCopy .Values.pipeline) $own) }}
{{- end }}

{{- define "tercel.files" -}}
tercel.yaml: |
  {{- include "tercel.pipeline" . | nindent 2 }}
{{- range $name, $text := .Values.files }}
{{ $name }}: {{ $text | toJson }}
{{- end }}
{{- end }}

{{/* Seconds that the ingress needs to stop. The functions at hand read durations
     only as something to add to a time. */}}
{{- define "tercel.ingress.grace" -}}
{{- $in := get .Values.pipeline "ingress" | default dict }}
{{- $from := toDate "2006-01-02" "2024-01-01" }}
{{- $to := $from | mustDateModify (get $in "drain_grace" | default "5s") | mustDateModify (get $in "drain_timeout" | default "20s") }}
{{- add 10 (sub (unixEpoch $to) (unixEpoch $from)) }}
{{- end }}

{{- define "tercel.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532 # whom the files of Secrets are readable to
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What a container of (dict "root" $ "service" NAME "program" NAME) is. */}}
{{- define "tercel.container" -}}
name: {{ .service }}
image: "{{ .root.Values.image.prefix }}/{{ .program }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: pipeline, mountPath: /etc/tercel, readOnly: true}
  {{- if .root.Values.secrets }}
  - {name: secrets, mountPath: /run/secrets, readOnly: true}
  {{- end }}
  {{- if or .root.Values.nats.seeds .root.Values.nats.ca }}
  - {name: nats, mountPath: /run/nats, readOnly: true}
  {{- end }}
{{- end }}

{{/* The volumes of (dict "root" $ "service" NAME "pipeline" CONFIGMAP). */}}
{{- define "tercel.volumes" -}}
- name: pipeline
  configMap: {name: {{ .pipeline }}}
{{- with .root.Values.secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range . }}
      - secret: {name: {{ . }}}
      {{- end }}
{{- end }}
{{- if or .root.Values.nats.seeds .root.Values.nats.ca }}
- name: nats
  projected:
    defaultMode: 0440
    sources:
      {{- with .root.Values.nats.seeds }}
      - secret: {name: {{ index . $.service }}, items: [{key: nats.nk, path: nats.nk}]}
      {{- end }}
      {{- with .root.Values.nats.ca }}
      - secret: {name: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
      {{- end }}
{{- end }}
{{- end }}

{{/* What (dict "root" $ "service" NAME) may connect to. */}}
{{- define "tercel.egress" -}}
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
- ports: [{protocol: TCP, port: {{ .root.Values.networkPolicy.natsPort }}}]
  {{- with .root.Values.networkPolicy.nats }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with concat .root.Values.networkPolicy.egress.all (get .root.Values.networkPolicy.egress .service | default list) }}
{{ toYaml . }}
{{- end }}
{{- end }}
