// Pulls an image with the library by which CRI-O pulls, and the files that configure its mirrors:
// `crio-pull REGISTRIES.CONF.D NAME PLATFORM DIRECTORY` writes its manifest and blobs by their hex
// digests.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/pkg/blobinfocache/none"
	"go.podman.io/image/v5/types"
)

func main() {
	if err := pull(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "crio-pull:", err)
		os.Exit(1)
	}
}

func pull(configs, name, platform, dir string) error {
	ctx := context.Background()
	system, architecture, _ := strings.Cut(platform, "/")
	empty := filepath.Join(dir, "registries.conf")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		return err
	}
	sys := &types.SystemContext{
		SystemRegistriesConfPath:    empty,
		SystemRegistriesConfDirPath: configs,
		AuthFilePath:                filepath.Join(dir, "auth.json"),
		DockerPerHostCertDirPath:    dir,
		RegistriesDirPath:           dir,
		OSChoice:                    system,
		ArchitectureChoice:          architecture,
	}
	reference, err := docker.ParseReference("//" + name)
	if err != nil {
		return err
	}
	source, err := reference.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer source.Close()
	// Chooses the platform of an index, and compares digests of manifests.
	pulled, err := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(source, nil))
	if err != nil {
		return err
	}
	blobs := append(pulled.LayerInfos(), pulled.ConfigInfo())
	for _, blob := range blobs {
		if err := fetch(ctx, source, blob, dir); err != nil {
			return err
		}
	}
	return nil
}

func fetch(ctx context.Context, source types.ImageSource, blob types.BlobInfo, dir string) error {
	body, _, err := source.GetBlob(ctx, blob, none.NoCache)
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.Create(filepath.Join(dir, blob.Digest.Encoded()))
	if err != nil {
		return err
	}
	defer file.Close()
	verifier := blob.Digest.Verifier()
	if _, err := io.Copy(io.MultiWriter(file, verifier), body); err != nil {
		return err
	}
	if !verifier.Verified() {
		return fmt.Errorf("%s is not what came", blob.Digest)
	}
	return nil
}
