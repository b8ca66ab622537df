package devpg

import "context"

// Config says which cluster to run.
type Config struct {
	// DataDir is the data directory, made by Start if it does not exist. Where
	// the user the server runs as cannot reach it, it becomes a symbolic link
	// into FallbackDir.
	DataDir string

	// BinDir is the folder of PostgreSQL's server programs; empty searches, and
	// installs them if there are none.
	BinDir string

	// Settings are parameters of postgresql.conf, for instance "fsync": "off".
	// They win over the cluster's own configuration.
	Settings map[string]string

	// FallbackDir holds the data when DataDir cannot be reached by the user the
	// server runs as; empty is /var/lib/billproxy. Only root needs it.
	FallbackDir string

	// Progress is told, a sentence at a time, what takes long. It may be nil.
	Progress func(message string)
}

func (c Config) progress(message string) {
	if c.Progress != nil {
		c.Progress(message)
	}
}

// Start runs the cluster of config and returns when it accepts connections. The
// data of an earlier run is kept. Cancelling ctx abandons the start; it does
// not end a cluster that Start has returned. Every error is one sentence for
// the user.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	dataDir, err := openDataDir(config.DataDir)
	if err != nil {
		return nil, err
	}
	programs, err := providePrograms(ctx, config, dataDir)
	if err != nil {
		return nil, err
	}
	account, err := serverAccount(ctx, dataDir.path)
	if err != nil {
		return nil, err
	}
	if dataDir.major == "" {
		err = dataDir.initialize(ctx, config, programs, account)
	} else {
		err = dataDir.check(ctx, account)
	}
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{dataDir: dataDir.path, programs: programs, account: account, settings: config.Settings}
	if err := cluster.prepareSocketDir(); err != nil {
		return nil, err
	}
	config.progress("starting PostgreSQL " + programs.major)
	if err := cluster.startOnFreePort(ctx); err != nil {
		cluster.removeSocketDir()
		return nil, err
	}
	return cluster, nil
}
