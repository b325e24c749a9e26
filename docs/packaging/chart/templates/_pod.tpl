{{- define "larder.pod" -}}
metadata:
  labels:
    {{- include "larder.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "larder.serviceAccount" . }}
  automountServiceAccountToken: false
  # LARDER_PORT and its like are not Larder's variables.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: larder
      image: "{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/larder/config.toml]
      env:
        - { name: LARDER_LISTEN, value: "0.0.0.0:5000" }
        - { name: LARDER_ADMIN_LISTEN, value: "0.0.0.0:5001" }
        # A directory of its own: that of a volume can belong to root.
        - { name: LARDER_CACHE_DIR, value: /var/cache/larder/cache }
        - { name: LARDER_CACHE_MAX_SIZE, value: {{ .Values.cache.maxSize | quote }} }
        - name: LARDER_SHUTDOWN_GRACE
          value: {{ printf "%ds" (sub .Values.terminationGracePeriodSeconds 10) | quote }}
        {{- with .Values.env }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        - name: registry
          containerPort: 5000
          {{- if and .Values.hostPort (eq .Values.kind "DaemonSet") }}
          hostPort: {{ .Values.hostPort }}
          hostIP: 127.0.0.1
          {{- end }}
        - { name: admin, containerPort: 5001 }
      startupProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 1
        failureThreshold: 60
      readinessProbe:
        httpGet: { path: /readyz, port: admin }
        periodSeconds: 5
      livenessProbe:
        httpGet: { path: /healthz, port: admin }
        periodSeconds: 10
        failureThreshold: 6
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - { name: config, mountPath: /etc/larder, readOnly: true }
        - { name: cache, mountPath: /var/cache/larder }
        {{- range $name, $_ := .Values.secrets }}
        - { name: secret-{{ $name }}, mountPath: /run/secrets/larder/{{ $name }}, readOnly: true }
        {{- end }}
  volumes:
    - name: config
      configMap: { name: {{ include "larder.name" . }} }
    {{- range $name, $secret := .Values.secrets }}
    - name: secret-{{ $name }}
      secret: {{- toYaml $secret | nindent 8 }}
    {{- end }}
    {{- if eq .Values.kind "DaemonSet" }}
    - name: cache
      hostPath: { path: {{ .Values.cache.hostPath }}, type: Directory }
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
