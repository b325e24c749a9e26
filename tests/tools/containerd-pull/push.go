package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// push sends what an OCI image layout holds: an image, or an index and all that it lists. Blobs go
// as BuildKit and Docker send them, each in one PUT.
func push(ctx context.Context, opts options, name, dir string) error {
	store, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return err
	}
	var layout ocispec.Index
	if err := json.Unmarshal(text, &layout); err != nil {
		return err
	}
	if len(layout.Manifests) != 1 {
		return fmt.Errorf("%s holds %d images, not one", dir, len(layout.Manifests))
	}
	descriptor := layout.Manifests[0]
	resolver := newResolver(ctx, opts)
	// With the digest, as containerd does: only what has it gets the tag.
	pusher, err := resolver.Pusher(ctx, name+"@"+descriptor.Digest.String())
	if err != nil {
		return err
	}
	return remotes.PushContent(ctx, pusher, descriptor, store, nil, platforms.All, nil)
}
