// Plays the part of a node for a DaemonSet: `daemonset ROOT < documents.yaml`.
//
// Decodes each document as the API server of Kubernetes does, and strictly: a field that it does
// not know or that is there twice is an error. Makes the volumes of the first init container below
// ROOT, where that container is to be run by chroot, with the files of a ConfigMap as kubelet makes
// them. Prints, as JSON, its command and which directories are the node's own.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
	strict "sigs.k8s.io/yaml"
)

type started struct {
	Command     []string          `json:"command"`
	NodeDirs    map[string]string `json:"node_dirs"`
	Annotations map[string]string `json:"annotations"`
}

type documents struct {
	configMaps map[string]core.ConfigMap
	daemonSets []apps.DaemonSet
}

func main() {
	started, err := run(os.Args[1], os.Stdin)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(started)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "daemonset:", err)
		os.Exit(1)
	}
}

func run(root string, in io.Reader) (*started, error) {
	documents, err := read(in)
	if err != nil {
		return nil, err
	}
	if len(documents.daemonSets) != 1 {
		return nil, fmt.Errorf("%d DaemonSets", len(documents.daemonSets))
	}
	set := documents.daemonSets[0]
	if err := check(set); err != nil {
		return nil, err
	}
	pod := set.Spec.Template.Spec
	init := pod.InitContainers[0]
	started := &started{
		Command:     append(init.Command, init.Args...),
		NodeDirs:    map[string]string{},
		Annotations: set.Spec.Template.Annotations,
	}
	for _, mount := range init.VolumeMounts {
		volume, err := volumeOf(pod, mount.Name)
		if err != nil {
			return nil, err
		}
		dir := filepath.Join(root, mount.MountPath)
		switch {
		case volume.HostPath != nil:
			started.NodeDirs[mount.MountPath] = volume.HostPath.Path
			err = os.MkdirAll(dir, 0o755)
		case volume.ConfigMap != nil:
			configMap, found := documents.configMaps[set.Namespace+"/"+volume.ConfigMap.Name]
			if !found {
				return nil, fmt.Errorf("there is no ConfigMap %s in %s", volume.ConfigMap.Name, set.Namespace)
			}
			err = project(dir, configMap)
		default:
			err = fmt.Errorf("the volume %s is of no kind that is known here", volume.Name)
		}
		if err != nil {
			return nil, err
		}
	}
	return started, nil
}

func read(in io.Reader) (*documents, error) {
	read := &documents{configMaps: map[string]core.ConfigMap{}}
	reader := yaml.NewDocumentDecoder(io.NopCloser(in))
	// A document comes in one read if there is room for it.
	buffer := make([]byte, 1<<20)
	for {
		length, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return read, nil
		}
		if err != nil {
			return nil, err
		}
		if err := read.add(bytes.Clone(buffer[:length])); err != nil {
			return nil, err
		}
	}
}

func (read *documents) add(text []byte) error {
	var kind meta.TypeMeta
	if err := strict.Unmarshal(text, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case "v1 ConfigMap":
		var configMap core.ConfigMap
		if err := strict.UnmarshalStrict(text, &configMap); err != nil {
			return err
		}
		for key := range configMap.Data {
			if faults := validation.IsConfigMapKey(key); len(faults) > 0 {
				return fmt.Errorf("the key %s: %v", key, faults)
			}
		}
		read.configMaps[configMap.Namespace+"/"+configMap.Name] = configMap
	case "apps/v1 DaemonSet":
		var set apps.DaemonSet
		if err := strict.UnmarshalStrict(text, &set); err != nil {
			return err
		}
		read.daemonSets = append(read.daemonSets, set)
	default:
		return fmt.Errorf("`%s %s` is not known here", kind.APIVersion, kind.Kind)
	}
	return nil
}

// What the API server refuses beside unknown fields.
func check(set apps.DaemonSet) error {
	template := set.Spec.Template
	selector, err := meta.LabelSelectorAsSelector(set.Spec.Selector)
	if err != nil {
		return err
	}
	if selector.Empty() || !selector.Matches(labels.Set(template.Labels)) {
		return errors.New("the selector does not match the labels of the template")
	}
	if len(template.Spec.Containers) == 0 || len(template.Spec.InitContainers) == 0 {
		return errors.New("a container is missing")
	}
	for _, container := range append(template.Spec.InitContainers, template.Spec.Containers...) {
		if faults := validation.IsDNS1123Label(container.Name); len(faults) > 0 || container.Image == "" {
			return fmt.Errorf("the container %q: %v", container.Name, faults)
		}
		for _, mount := range container.VolumeMounts {
			if _, err := volumeOf(template.Spec, mount.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func volumeOf(pod core.PodSpec, name string) (*core.Volume, error) {
	for _, volume := range pod.Volumes {
		if volume.Name == name {
			return &volume, nil
		}
	}
	return nil, fmt.Errorf("there is no volume %s", name)
}

// Each key is a link to a file in a directory that a link leads to, which an update replaces.
func project(dir string, configMap core.ConfigMap) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	version := "..2026_01_01"
	if err := os.MkdirAll(filepath.Join(dir, version), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(version, filepath.Join(dir, "..data")); err != nil {
		return err
	}
	for key, text := range configMap.Data {
		if err := os.WriteFile(filepath.Join(dir, version, key), []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("..data", key), filepath.Join(dir, key)); err != nil {
			return err
		}
	}
	return nil
}
