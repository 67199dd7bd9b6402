{{/* The hub's configuration. It names variables for passwords, which the pod gets from a Secret. */}}

{{- define "splitmesh.variable" -}}
PASSWORD_{{ . | upper | replace "-" "_" }}
{{- end -}}

{{/* root: users of the hub, one a line. */}}
{{- define "splitmesh.brokerUsers" -}}
system
worker
{{- range $tenant, $_ := .Values.tenants }}
{{ $tenant }}-leaf
{{ $tenant }}-edge
{{ $tenant }}-gateway
{{- end }}
{{- end -}}

{{/* (dict "tenants" list "what" list): subjects as a JSON list, with replies. */}}
{{- define "splitmesh.subjects" -}}
{{- $subjects := list "_INBOX.>" -}}
{{- range $tenant := .tenants -}}
{{- range $what := $.what -}}
{{- $subjects = append $subjects (printf "sm.v1.%s.%s" $tenant $what) -}}
{{- end -}}
{{- end -}}
{{- toRawJson $subjects -}}
{{- end -}}

{{/* (dict "name" user "tenants" list "publish" list "subscribe" list "replies" bool) */}}
{{- define "splitmesh.brokerUser" -}}
{ user: {{ .name }}, password: ${{ include "splitmesh.variable" .name }}, permissions: {
        publish: {{ include "splitmesh.subjects" (dict "tenants" .tenants "what" .publish) }}
        subscribe: {{ include "splitmesh.subjects" (dict "tenants" .tenants "what" .subscribe) }}
        {{- if .replies }}
        allow_responses: { max: 4, expires: "1m" }
        {{- end }} } }
{{- end -}}

{{/* root: workers have an account of their own, which exports a tenant's subjects to the tenant's account alone. */}}
{{- define "splitmesh.brokerAccounts" -}}
{{- $work := list "infer.>" "worker.>" "cancel" "keep" -}}
{{- $told := list "result.*" "preview.*" "status.*" -}}
{{- $fromEdge := concat $work $told -}}
{{- $tenants := keys .Values.tenants | sortAlpha -}}
system_account: system
accounts {
  system { users: [ { user: system, password: ${{ include "splitmesh.variable" "system" }} } ] }
  workers {
    users: [
      {{ include "splitmesh.brokerUser" (dict "name" "worker" "tenants" $tenants "publish" (list "load") "subscribe" $work "replies" true) }}
    ]
    exports: [
      {{- range $tenant := $tenants }}
      {{- range $what := $work }}
      { service: sm.v1.{{ $tenant }}.{{ $what }}, accounts: [tenant-{{ $tenant }}] }
      {{- end }}
      { stream: sm.v1.{{ $tenant }}.load, accounts: [tenant-{{ $tenant }}] }
      {{- end }}
    ]
  }
  {{- range $tenant := $tenants }}
  {{- $of := list $tenant }}
  tenant-{{ $tenant }} {
    jetstream: enabled
    users: [
      {{- range $side := list "leaf" "edge" }}
      {{ include "splitmesh.brokerUser" (dict "name" (printf "%s-%s" $tenant $side) "tenants" $of "publish" $fromEdge "subscribe" (list "load" "edge.*") "replies" true) }}
      {{- end }}
      {{ include "splitmesh.brokerUser" (dict "name" (printf "%s-gateway" $tenant) "tenants" $of "publish" (append $work "edge.*") "subscribe" (append $told "load") "replies" false) }}
    ]
    imports: [
      {{- range $what := $work }}
      { service: { account: workers, subject: sm.v1.{{ $tenant }}.{{ $what }} } }
      {{- end }}
      { stream: { account: workers, subject: sm.v1.{{ $tenant }}.load } }
    ]
  }
  {{- end }}
}
{{- end -}}

{{- define "splitmesh.brokerTls" -}}
cert_file: "/etc/nats/tls/tls.crt"
key_file: "/etc/nats/tls/tls.key"
ca_file: "/etc/nats/tls/ca.crt"
{{- end -}}

{{- define "splitmesh.brokerConfig" -}}
server_name: $POD_NAME
listen: 0.0.0.0:4222
http: 0.0.0.0:8222
pid_file: /tmp/nats.pid
max_payload: {{ .Values.broker.maxPayload }}
max_pending: 64MB
# A worker that lost its power must leave its queue group soon, not after four minutes.
ping_interval: "5s"
ping_max: 2
# Clients go elsewhere before the pod ends.
lame_duck_grace_period: "5s"
lame_duck_duration: "30s"
tls {
  {{- include "splitmesh.brokerTls" . | nindent 2 }}
  timeout: 5
}
leafnodes {
  listen: 0.0.0.0:7422
  tls {
    {{- include "splitmesh.brokerTls" . | nindent 4 }}
    # A leaf shows a certificate, and logs in besides; over a thin link that takes its time.
    verify: true
    timeout: 10
  }
}
jetstream {
  store_dir: "/data/jetstream"
  domain: hub
  max_memory_store: {{ .Values.broker.jetstream.maxMemory }}
  max_file_store: {{ .Values.broker.jetstream.maxFile }}
}
{{- if gt (int .Values.broker.replicas) 1 }}
cluster {
  name: {{ include "splitmesh.fullname" . }}
  listen: 0.0.0.0:6222
  tls {
    {{- include "splitmesh.brokerTls" . | nindent 4 }}
    verify: true
    timeout: 5
  }
  routes: [
    {{- range $index := until (int .Values.broker.replicas) }}
    "tls://{{ include "splitmesh.fullname" $ }}-broker-{{ $index }}.{{ include "splitmesh.fullname" $ }}-broker-pods.{{ $.Release.Namespace }}.svc:6222"
    {{- end }}
  ]
}
{{- end }}
{{ include "splitmesh.brokerAccounts" . }}
{{- end -}}
