{{/* What all objects are called by: the release's name, short enough for nodes' names of at most 32 characters. */}}
{{- define "evernear.name" -}}
{{- if gt (len .Release.Name) 21 }}{{ fail (printf "the release's name %q is too long: at most 21 characters" .Release.Name) }}{{ end }}
{{- .Release.Name -}}
{{- end }}

{{- define "evernear.labels" -}}
app.kubernetes.io/name: evernear
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The first origins: whom edges and the twin ask for all others. */}}
{{- define "evernear.seeds" -}}
{{- $root := index . 0 }}
{{- $name := include "evernear.name" $root }}
{{- range until (int (min 3 $root.Values.origin.replicas)) }}
[[{{ index $ 1 }}]]
name = "{{ $name }}-origin-{{ . }}"
address = "{{ $name }}-origin-{{ . }}.{{ $name }}-origin.{{ $root.Release.Namespace }}:7400"
{{- end }}
{{- end }}

{{/* A pod of one role: its own part of values, its command, ports and probes are the caller's. */}}
{{- define "evernear.workload" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $name := include "evernear.name" $root }}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}-{{ .role }}
  labels:
    {{- include "evernear.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
spec:
  serviceName: {{ $name }}-{{ .role }}
  replicas: {{ .replicas }}
  # All start at once, since each needs others; an update takes one after the other, each when the one before is ready.
  podManagementPolicy: Parallel
  selector:
    matchLabels:
      {{- include "evernear.labels" $root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
  template:
    metadata:
      labels:
        {{- include "evernear.labels" $root | nindent 8 }}
        app.kubernetes.io/component: {{ .role }}
      annotations:
        # A new configuration starts the pods anew.
        evernear/config: {{ include "evernear.config" $root | sha256sum }}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: { type: RuntimeDefault }
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      # As many in each zone, which one fire takes away, and on different machines while there are enough.
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - topologyKey: {{ . }}
          maxSkew: 1
          whenUnsatisfiable: {{ if and (eq . "topology.kubernetes.io/zone") (gt (len $root.Values.places) 1) }}DoNotSchedule{{ else }}ScheduleAnyway{{ end }}
          labelSelector:
            matchLabels:
              {{- include "evernear.labels" $root | nindent 14 }}
              app.kubernetes.io/component: {{ $.role }}
        {{- end }}
      initContainers:
        - name: prepare
          image: {{ include "evernear.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [/bin/bash, /etc/evernear/prepare]
          env:
            - { name: ROLE, value: {{ .role }} }
            - name: NAME
              {{- if .nodeName }}
              value: {{ .nodeName | quote }}
              {{- else }}
              valueFrom: { fieldRef: { fieldPath: metadata.name } }
              {{- end }}
            - name: ZONE
              valueFrom: { fieldRef: { fieldPath: "metadata.labels['topology.kubernetes.io/zone']" } }
            {{- if eq .role "twin" }}
            - { name: EVERNEAR_STATE, value: /var/lib/evernear/owner }
            {{- end }}
          securityContext: {{- include "evernear.confined" . | nindent 12 }}
          resources: { requests: { cpu: 50m, memory: 64Mi }, limits: { memory: 256Mi } }
          volumeMounts:
            - { name: config, mountPath: /etc/evernear, readOnly: true }
            - { name: keys, mountPath: /keys, readOnly: true }
            - { name: run, mountPath: /run/evernear }
            - { name: state, mountPath: /var/lib/evernear }
            {{- range $at, $secret := .secrets }}
            - { name: {{ $at }}, mountPath: /{{ $at }}, readOnly: true }
            {{- end }}
      containers:
        - name: {{ .role }}
          image: {{ include "evernear.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: {{ toJson .args }}
          {{- with .env }}
          env:
            {{- range $key, $value := . }}
            - { name: {{ $key }}, value: {{ $value }} }
            {{- end }}
          {{- end }}
          ports:
            {{- range .ports }}
            - { name: {{ .name }}, containerPort: {{ .port }}, protocol: {{ .protocol | default "TCP" }} }
            {{- end }}
          startupProbe:
            httpGet: { path: {{ .alive }}, port: {{ .probed }} }
            periodSeconds: 5
            failureThreshold: 60
          livenessProbe:
            httpGet: { path: {{ .alive }}, port: {{ .probed }} }
            periodSeconds: 20
            timeoutSeconds: 5
          readinessProbe:
            httpGet: { path: {{ .ready }}, port: {{ .probed }} }
            periodSeconds: 5
            timeoutSeconds: 5
          securityContext: {{- include "evernear.confined" . | nindent 12 }}
          resources: {{- toYaml $values.resources | nindent 12 }}
          volumeMounts:
            - { name: run, mountPath: /run/evernear, readOnly: true }
            - { name: state, mountPath: /var/lib/evernear }
            {{- range $at, $secret := .mounts }}
            - { name: {{ $at }}, mountPath: /{{ $at }}, readOnly: true }
            {{- end }}
      volumes:
        - name: config
          configMap: { name: {{ $name }} }
        - name: keys
          secret: { secretName: {{ $values.secret }}, defaultMode: 0440 }
        - name: run
          emptyDir: { medium: Memory, sizeLimit: 1Mi }
        {{- range $at, $secret := merge (dict) .secrets .mounts }}
        - name: {{ $at }}
          secret: { secretName: {{ $secret }}, defaultMode: 0440 }
        {{- end }}
  volumeClaimTemplates:
    - metadata: { name: state }
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $values.storage.class }}
        storageClassName: {{ . }}
        {{- end }}
        resources: { requests: { storage: {{ $values.storage.size }} } }
{{- end }}

{{- define "evernear.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
{{- end }}

{{- define "evernear.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}
