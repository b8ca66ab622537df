package devpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the operating system user the server runs as. PostgreSQL refuses
// to run as root.
type account struct {
	name       string
	credential *syscall.Credential // nil: the user we are
}

// serverAccount chooses the account: ourselves, unless we are root; then the
// owner of existing data, else the user postgres, else nobody.
func serverAccount(ctx context.Context, dataDir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{name: strconv.Itoa(os.Geteuid())}, nil
	}
	entry, err := lookupAccount(dataDir)
	if err != nil {
		return account{}, err
	}
	uid, uidErr := strconv.ParseUint(entry.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(entry.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return account{}, fmt.Errorf("user %s: %w", entry.Username, err)
	}
	a := account{
		name:       entry.Username,
		credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
	}
	if err := a.enter(ctx, "/"); err != nil {
		return account{}, fmt.Errorf("PostgreSQL refuses to run as root and programs cannot be run as user %s: %w", a.name, err)
	}
	return a, nil
}

func lookupAccount(dataDir string) (*user.User, error) {
	info, err := os.Stat(dataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 {
			uid, gid := strconv.FormatUint(uint64(owner.Uid), 10), strconv.FormatUint(uint64(owner.Gid), 10)
			return &user.User{Username: uid, Uid: uid, Gid: gid}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if entry, err := user.Lookup(name); err == nil {
			return entry, nil
		}
	}
	return nil, errors.New("PostgreSQL refuses to run as root, and this system has neither a user postgres nor nobody: " +
		"run this as another user")
}

// own gives a file or folder we made to the account.
func (a account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	return os.Chown(path, int(a.credential.Uid), int(a.credential.Gid))
}

// enter reports, as a nil error, that the account may enter the folder. It asks
// the system instead of computing permissions: a child takes dir as its working
// directory after it has become the account.
func (a account) enter(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", ":")
	a.apply(cmd, dir)
	return cmd.Run()
}

// apply makes cmd run as the account, in dir, which the account must be able to
// enter: PostgreSQL's programs fail in a working directory they cannot read.
func (a account) apply(cmd *exec.Cmd, dir string) {
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential}
}
