{{/* Names and labels that the templates share. */}}

{{/* Labels of every object: (dict "root" $ "component" "operator"). */}}
{{- define "dexorder.labels" -}}
{{ include "dexorder.selectorLabels" . }}
app.kubernetes.io/part-of: dexorder-workspaces
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Labels that select a component's pods. */}}
{{- define "dexorder.selectorLabels" -}}
app.kubernetes.io/name: dexorder-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Full name of an image: (dict "root" $ "image" .Values.agent.image). */}}
{{- define "dexorder.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{- with .root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ .image.repository }}{{ if hasPrefix "sha256:" $tag }}@{{ else }}:{{ end }}{{ $tag }}
{{- end }}

{{/* URL of the gateway, without a slash at the end. */}}
{{- define "dexorder.publicUrl" -}}
{{- required "gateway.publicUrl is empty: set it to the URL at which users reach the gateway" .Values.gateway.publicUrl | trimSuffix "/" -}}
{{- end }}

{{/* The gateway's configuration file. */}}
{{- define "dexorder.gatewayConfig" -}}
{{- $gateway := .Values.gateway -}}
{{- $publicUrl := include "dexorder.publicUrl" . -}}
{{- $issuers := $gateway.auth.issuers -}}
{{- if not $issuers }}{{ fail "gateway.auth.issuers is empty: name at least one OpenID issuer, or nobody can log in" }}{{ end -}}
{{- range $issuers -}}
{{- if and (gt (len $issuers) 1) (not (hasKey . "userIdPrefix")) -}}
{{- fail (printf "gateway.auth.issuers: %s has no userIdPrefix: with more than one issuer each needs its own, or '' where the users are the same people" .issuer) -}}
{{- end -}}
{{- end -}}
listen: 0.0.0.0:8080
managementListen: 0.0.0.0:9090
publicUrl: {{ $publicUrl | quote }}
workspaceNamespace: {{ .Values.workspaceNamespace }}
signingKeyFile: /etc/dexorder/signing-key/key.pem
defaults:
  {{- toYaml $gateway.defaults | nindent 2 }}
auth:
  issuers:
    {{- toYaml $issuers | nindent 4 }}
  {{- if $gateway.auth.apiKeysSecret }}
  apiKeysFolder: /etc/dexorder/api-keys
  {{- end }}
wake:
  {{- toYaml $gateway.wake | nindent 2 }}
limits:
  {{- include "dexorder.numbers" $gateway.limits | nindent 2 }}
{{- if $gateway.visitors.enabled }}
visitors:
  {{- include "dexorder.visitors" . | nindent 2 }}
{{- end }}
{{- if $gateway.tls.secretName }}
tls: {folder: /etc/dexorder/tls}
{{- end }}
shutdown:
  {{- toYaml $gateway.shutdown | nindent 2 }}
allowedOrigins:
  {{- toYaml $gateway.allowedOrigins | nindent 2 }}
chat:
  {{- include "dexorder.chatConfig" $gateway.chat | nindent 2 }}
{{- end }}

{{/* A part of the values whose numbers stay integers: large ones would come out as floats. */}}
{{- define "dexorder.numbers" -}}
{{- range $name, $value := . }}
{{ $name }}: {{ if kindIs "map" $value }}{{ include "dexorder.numbers" $value | nindent 2 }}
{{- else if kindIs "slice" $value }}{{ $value | toJson }}
{{- else if or (kindIs "string" $value) (kindIs "bool" $value) }}{{ $value | toJson }}
{{- else }}{{ int64 $value }}{{ end }}
{{- end }}
{{- end }}

{{/* The visitors' part of it. */}}
{{- define "dexorder.visitors" -}}
{{- $visitors := .Values.gateway.visitors -}}
{{- $tier := get .Values.tiers $visitors.tier | default dict -}}
{{- if and $tier (not (has "Public" (default (list) $tier.authModes))) }}{{ fail (printf "gateway.visitors.tier: the tier %s does not have Public among its authModes" $visitors.tier) }}{{ end -}}
{{- $lifetime := $visitors.lifetime | default $tier.maxLifetime -}}
{{- if not $lifetime }}{{ fail (printf "gateway.visitors.lifetime is empty and the tier %s has no maxLifetime: set one of them, or visitors' workspaces stay for ever" $visitors.tier) }}{{ end -}}
{{- include "dexorder.numbers" (set (deepCopy $visitors) "lifetime" $lifetime) }}
{{- end }}

{{/* The chat's part of it. Numbers are written as integers: large ones would come out as floats. */}}
{{- define "dexorder.chatConfig" -}}
{{- if ne .provider "offline" -}}
{{- if not .baseUrl }}{{ fail "gateway.chat.baseUrl is empty: give the URL of the provider's API, such as https://api.openai.com/v1" }}{{ end -}}
{{- if not .model }}{{ fail "gateway.chat.model is empty: give the provider's name of the model" }}{{ end -}}
{{- end -}}
{{- range $name, $value := omit . "apiKeySecret" "tiers" "servers" }}
{{ $name }}: {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ int64 $value }}{{ end }}
{{- end }}
{{- if .apiKeySecret.name }}
apiKeyFile: /etc/dexorder/chat-key/key
{{- end }}
servers:
  {{- range .servers }}
  - {{- omit . "credentialSecret" | toYaml | nindent 4 }}
    {{- if .credentialSecret }}
    credentialFile: /etc/dexorder/servers/{{ .name }}/credential
    {{- end }}
  {{- else }} []
  {{- end }}
tiers:
  {{- range $tier, $model := .tiers }}
  {{ $tier }}:
    {{- range $name, $value := $model }}
    {{ $name }}: {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ int64 $value }}{{ end }}
    {{- end }}
  {{- else }} {}
  {{- end }}
{{- end }}

{{/* Security context of the services' pods. */}}
{{- define "dexorder.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Security context of the services' containers. */}}
{{- define "dexorder.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Where a component's pods run: its part of the values. */}}
{{- define "dexorder.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* References to the pull secrets. */}}
{{- define "dexorder.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* All addresses but the ranges of a list, as NetworkPolicyPeers. */}}
{{- define "dexorder.publicAddresses" -}}
{{- $v4 := list }}{{ $v6 := list }}
{{- range . | uniq }}{{ if contains ":" . }}{{ $v6 = append $v6 . }}{{ else }}{{ $v4 = append $v4 . }}{{ end }}{{ end -}}
- ipBlock:
    cidr: 0.0.0.0/0
    {{- with $v4 }}
    except:
      {{- toYaml . | nindent 6 }}
    {{- end }}
- ipBlock:
    cidr: ::/0
    {{- with $v6 }}
    except:
      {{- toYaml . | nindent 6 }}
    {{- end }}
{{- end }}
