{{/* The broker in an edge's pod: for this pod alone, over loopback, without accounts; the hub knows it by certificate and login. */}}

{{- define "splitmesh.leafConfig" -}}
server_name: $NODE_NAME
listen: 127.0.0.1:4222
http: 0.0.0.0:8222
max_payload: {{ .Values.broker.maxPayload }}
max_pending: 64MB
ping_interval: "5s"
ping_max: 2
leafnodes {
  reconnect: 1
  remotes: [ {
    urls: [ $LEAF_URL ]
    tls {
      cert_file: "/etc/nats/tls/tls.crt"
      key_file: "/etc/nats/tls/tls.key"
      ca_file: "/etc/nats/tls/ca.crt"
      timeout: 10
    }
  } ]
}
{{- end -}}

{{/* (dict "root" $ "edge" pool): a sidecar that starts before the edge and ends after it. */}}
{{- define "splitmesh.leafContainer" -}}
- name: leaf
  image: {{ .root.Values.broker.image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  restartPolicy: Always
  command: [nats-server, --config, /etc/nats/leaf.conf]
  env:
    - name: NODE_NAME_BARE
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    - name: NODE_NAME
      value: '"$(NODE_NAME_BARE)"'
    - name: LEAF_PASSWORD
      valueFrom:
        secretKeyRef:
          name: {{ include "splitmesh.secret" (dict "root" .root "key" (printf "leaf-%s" .edge.tenant)) }}
          key: password
    - name: LEAF_URL
      value: '"tls://{{ .edge.tenant }}-leaf:$(LEAF_PASSWORD)@{{ include "splitmesh.leafTarget" .root }}"'
  ports:
    - {name: monitor, containerPort: 8222}
  startupProbe:
    httpGet: {path: /healthz, port: monitor}
    periodSeconds: 1
    failureThreshold: 30
  livenessProbe:
    httpGet: {path: /healthz, port: monitor}
    periodSeconds: 10
    timeoutSeconds: 4
  securityContext: {{ include "splitmesh.containerSecurity" .root | nindent 4 }}
  resources: {{ toYaml .edge.leaf.resources | nindent 4 }}
  volumeMounts:
    - {name: leaf-config, mountPath: /etc/nats/leaf.conf, subPath: leaf.conf, readOnly: true}
    - {name: leaf-tls, mountPath: /etc/nats/tls, readOnly: true}
    - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "splitmesh.leafVolumes" -}}
- name: leaf-config
  configMap: {name: {{ include "splitmesh.fullname" . }}-leaf}
- name: leaf-tls
  secret: {secretName: {{ include "splitmesh.secret" (dict "root" . "key" "leaf-tls") }}}
{{- end -}}

{{/* (dict "disk" values "names" dict) */}}
{{- define "splitmesh.edgeDisk" -}}
{{- if eq .disk.kind "hostPath" -}}
hostPath: {path: {{ .disk.hostPath }}, type: Directory}
{{- else if eq .disk.kind "ephemeral" -}}
ephemeral:
  volumeClaimTemplate:
    metadata:
      labels: {{ include "splitmesh.selector" .names | nindent 8 }}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .disk.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .disk.size }}}}
{{- else -}}
emptyDir: {sizeLimit: {{ .disk.size }}}
{{- end -}}
{{- end -}}
