//! Kubernetes: a `ConfigMap` with a `hosts.toml` for each registry, and a `DaemonSet` that puts
//! them where the containerd of each node reads them.

use super::containerd::{directory, hosts};
use super::mirrors::MirrorTargets;
use super::plan::SetupPlan;

pub(super) fn plan(targets: &MirrorTargets) -> SetupPlan {
    let files = targets.registries.iter().map(|registry| {
        let text = hosts(targets, registry);
        let lines = text.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        });
        format!("  {}: |\n{}", directory(registry), lines.collect::<String>())
    });
    let document = format!("{CONFIG_MAP}{}{DAEMON_SET}", files.collect::<String>());
    let next = vec![
        "apply it: `larder setup kubernetes | kubectl apply -f -`".to_owned(),
        "each node's containerd needs `config_path = \"/etc/containerd/certs.d\"`, which most \
         distributions of Kubernetes set"
            .to_owned(),
    ];
    SetupPlan { files: Vec::new(), document: Some(document), next }
}

const CONFIG_MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: larder-hosts
  namespace: kube-system
data:
";

const DAEMON_SET: &str = "\
---
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
    spec:
      tolerations: [{ operator: Exists }]
      initContainers:
        - name: write
          image: busybox:1
          command:
            - sh
            - -euc
            - |
              for file in /hosts/*; do
                dir=/certs.d/$(basename \"$file\")
                mkdir -p \"$dir\"
                cp \"$file\" \"$dir/hosts.toml\"
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
";
