// containerd-pull pulls an image with the registry client of a current containerd, which is also
// the one of Docker 29 and later: layers in parallel, and each layer in parallel ranges. With --push
// it pushes one.
//
// It stands for daemons that are newer than the distribution's packages. It decides nothing that
// they would not: which hosts to ask is in a hosts.toml as theirs, and what it fetched lies in a
// content store as theirs, so every byte was compared with its digest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"golang.org/x/sync/semaphore"
)

const containerd = "github.com/containerd/containerd/v2"

type options struct {
	hosts    string
	platform string
	chunk    int
	parallel int
	user     string
}

func main() {
	var opts options
	version := flag.Bool("version", false, "print containerd's version")
	flag.StringVar(&opts.hosts, "hosts-dir", "", "directory of <registry>/hosts.toml")
	flag.StringVar(&opts.platform, "platform", platforms.DefaultString(), "platform of an index to pull")
	// containerd's own names are concurrent_layer_fetch_buffer and max_concurrent_downloads.
	flag.IntVar(&opts.chunk, "chunk", 0, "bytes of each range of a layer; 0: one request for all of it")
	flag.IntVar(&opts.parallel, "parallel", 3, "requests at once")
	flag.StringVar(&opts.user, "user", "", "NAME:PASSWORD to log in with where a host asks for it")
	pushes := flag.Bool("push", false, "push the OCI image layout in DIRECTORY instead")
	refers := flag.Bool("referrers", false, "list what refers to NAME instead, without a DIRECTORY")
	flag.Parse()

	if *version {
		fmt.Println("containerd", moduleVersion())
		return
	}
	if *refers && flag.NArg() == 1 {
		exit(listReferrers(context.Background(), opts, flag.Arg(0)))
	}
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: containerd-pull [options] NAME DIRECTORY")
		os.Exit(2)
	}
	run := pull
	if *pushes {
		run = push
	}
	exit(run(context.Background(), opts, flag.Arg(0), flag.Arg(1)))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "containerd-pull:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func pull(ctx context.Context, opts options, name, dir string) error {
	store, err := local.NewStore(dir)
	if err != nil {
		return err
	}
	platform, err := platforms.Parse(opts.platform)
	if err != nil {
		return err
	}
	resolver := newResolver(ctx, opts)
	limiter := semaphore.NewWeighted(int64(opts.parallel))
	tunable, ok := resolver.(remotes.ResolverWithOptions)
	if !ok {
		return errors.New("this containerd's resolver takes no options")
	}
	tunable.SetOptions(
		transfer.WithDownloadLimiter(limiter),
		transfer.WithMaxConcurrentDownloads(opts.parallel),
		transfer.WithConcurrentLayerFetchBuffer(opts.chunk),
	)

	name, descriptor, err := resolver.Resolve(ctx, name)
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	matcher := platforms.OnlyStrict(platform)
	children := images.LimitManifests(
		images.FilterPlatforms(images.ChildrenHandler(store), matcher), matcher, 1)
	handler := images.Handlers(remotes.FetchHandler(store, fetcher), children)
	// Without a limit of its own: the resolver's counts requests already.
	return images.Dispatch(ctx, handler, nil, descriptor)
}

// listReferrers prints a line for each: its digest and its type.
func listReferrers(ctx context.Context, opts options, name string) error {
	resolver := newResolver(ctx, opts)
	name, descriptor, err := resolver.Resolve(ctx, name)
	if err != nil {
		return err
	}
	fetcher, err := resolver.Fetcher(ctx, name)
	if err != nil {
		return err
	}
	lister, ok := fetcher.(remotes.ReferrersFetcher)
	if !ok {
		return errors.New("this containerd's fetcher lists no referrers")
	}
	referrers, err := lister.FetchReferrers(ctx, descriptor.Digest)
	for _, referrer := range referrers {
		fmt.Println(referrer.Digest, referrer.ArtifactType)
	}
	return err
}

func newResolver(ctx context.Context, opts options) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{
		Hosts: config.ConfigureHosts(ctx, config.HostOptions{
			HostDir: config.HostDirFromRoot(opts.hosts),
			// For every host, as ctr does; the hosts.toml of the tests has only one.
			Credentials: func(string) (string, string, error) {
				name, password, _ := strings.Cut(opts.user, ":")
				return name, password, nil
			},
		}),
	})
}

func moduleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	for _, module := range info.Deps {
		if module.Path == containerd {
			return module.Version
		}
	}
	return "(unknown)"
}
