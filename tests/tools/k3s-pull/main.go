// Pulls an image as k3s does where it pulls images itself, before its containerd runs:
// `k3s-pull REGISTRIES.YAML NAME PLATFORM DIRECTORY` writes it as an OCI image layout.
package main

import (
	"fmt"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rancher/wharfie/pkg/registries"
)

func main() {
	if err := pull(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "k3s-pull:", err)
		os.Exit(1)
	}
}

func pull(config, image, platform, dir string) error {
	// A file that is not there is one that configures nothing.
	configured, err := registries.GetPrivateRegistries(config)
	if err != nil {
		return err
	}
	wanted, err := v1.ParsePlatform(platform)
	if err != nil {
		return err
	}
	reference, err := name.ParseReference(image)
	if err != nil {
		return err
	}
	pulled, err := configured.Image(reference, remote.WithPlatform(*wanted))
	if err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendImage(pulled)
}
