// Reads the documents of Kubernetes on stdin as the API server does, and strictly: a field that the
// type of a document does not know, or that is there twice, is an error, as is a value of another
// type. Prints the kind of each.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

var types = map[string]func() any{
	"apps/v1 DaemonSet":                       func() any { return &apps.DaemonSet{} },
	"apps/v1 StatefulSet":                     func() any { return &apps.StatefulSet{} },
	"monitoring.coreos.com/v1 ServiceMonitor": func() any { return &monitoring.ServiceMonitor{} },
	"networking.k8s.io/v1 NetworkPolicy":      func() any { return &networking.NetworkPolicy{} },
	"policy/v1 PodDisruptionBudget":           func() any { return &policy.PodDisruptionBudget{} },
	"v1 ConfigMap":                            func() any { return &core.ConfigMap{} },
	"v1 Service":                              func() any { return &core.Service{} },
	"v1 ServiceAccount":                       func() any { return &core.ServiceAccount{} },
}

func main() {
	if err := run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func run(in io.Reader) error {
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var head meta.TypeMeta
		if err := strict.Unmarshal(document, &head); err != nil {
			return err
		}
		if head.Kind == "" && head.APIVersion == "" {
			continue // Nothing but comments.
		}
		name := head.APIVersion + " " + head.Kind
		empty, ok := types[name]
		if !ok {
			return fmt.Errorf("%s is not known", name)
		}
		if err := strict.UnmarshalStrict(document, empty()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Println(head.Kind)
	}
}
