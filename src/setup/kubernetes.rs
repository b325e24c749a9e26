//! Kubernetes: a `ConfigMap` with a `hosts.toml` for each registry, and a `DaemonSet` that puts
//! them where the containerd of each node reads them.
//!
//! A node has the files of the `ConfigMap` and no other that `larder setup` wrote: those of
//! registries that left it are put back as they were. An empty one undoes everything.

use super::containerd::{directory, hosts};
use super::mirrors::MirrorTargets;
use super::plan::{SetupPlan, WRITTEN_BY};
use crate::oci::{Algorithm, Digest};

pub(super) fn plan(targets: &MirrorTargets) -> SetupPlan {
    let next = vec![
        "apply it: `larder setup kubernetes | kubectl apply -f -`".to_owned(),
        "each node's containerd needs `config_path = \"/etc/containerd/certs.d\"`, which most \
         distributions of Kubernetes set"
            .to_owned(),
    ];
    SetupPlan { files: Vec::new(), document: Some(document(targets)), next }
}

/// The document that puts the files of all nodes back.
pub(super) fn undo(targets: &MirrorTargets) -> SetupPlan {
    let nothing = MirrorTargets { registries: Vec::new(), ..targets.clone() };
    let next = vec![
        "apply it: `larder setup kubernetes --undo | kubectl apply -f -`".to_owned(),
        "wait for the nodes: `kubectl -n kube-system rollout status daemonset larder-hosts`"
            .to_owned(),
        "delete it: `kubectl -n kube-system delete daemonset,configmap larder-hosts`".to_owned(),
    ];
    SetupPlan { files: Vec::new(), document: Some(document(&nothing)), next }
}

fn document(targets: &MirrorTargets) -> String {
    let files = targets.registries.iter().map(|registry| {
        let text = hosts(targets, registry);
        let lines = text.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        });
        format!("  {}: |\n{}", directory(registry), lines.collect::<String>())
    });
    let files: String = files.collect();
    let data = if files.is_empty() { "data: {}\n".to_owned() } else { format!("data:\n{files}") };
    // Other files are another template, so that pods are made anew and write them.
    let version = Digest::of(Algorithm::Sha256, files.as_bytes());
    let set = DAEMON_SET.replace("VERSION", version.hex()).replace("MARK", WRITTEN_BY.trim_end());
    format!("{CONFIG_MAP}{data}{set}")
}

const CONFIG_MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: larder-hosts
  namespace: kube-system
";

/// containerd reads a file at any moment, so one is there whole or not at all.
const DAEMON_SET: &str = r#"---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: larder-hosts
  namespace: kube-system
spec:
  selector:
    matchLabels: { app: larder-hosts }
  template:
    metadata:
      labels: { app: larder-hosts }
      annotations: { larder/hosts: "VERSION" }
    spec:
      tolerations: [{ operator: Exists }]
      terminationGracePeriodSeconds: 1
      initContainers:
        - name: write
          image: busybox:1
          command:
            - sh
            - -euc
            - |
              is_ours() {
                [ -f "$1" ] && read -r line < "$1" && [ "$line" = 'MARK' ]
              }
              for file in /certs.d/*/hosts.toml; do
                dir=${file%/*}
                if is_ours "$file" && [ ! -f "/hosts/${dir##*/}" ]; then
                  if [ -f "$file.before-larder" ]; then
                    mv "$file.before-larder" "$file"
                  else
                    rm "$file"
                  fi
                  rm -f "$file.by-larder"
                  rmdir "$dir" || true
                fi
              done
              for new in /hosts/*; do
                [ -f "$new" ] || continue
                dir=/certs.d/${new##*/}
                file=$dir/hosts.toml
                mkdir -p "$dir"
                if [ -f "$file" ] && ! is_ours "$file"; then
                  cp -p "$file" "$file.before-larder"
                fi
                cp "$new" "$file.new-larder"
                mv "$file.new-larder" "$file"
              done
          volumeMounts:
            - { name: hosts, mountPath: /hosts, readOnly: true }
            - { name: certs, mountPath: /certs.d }
      containers:
        - name: wait
          image: busybox:1
          command: [sleep, infinity]
      volumes:
        - name: hosts
          configMap: { name: larder-hosts }
        - name: certs
          hostPath: { path: /etc/containerd/certs.d, type: DirectoryOrCreate }
"#;
