package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// maxSocketPath is below the 104 bytes that a socket's path may have on the strictest platform.
const maxSocketPath = 100

// dataSocket is the socket's name in a data folder.
const dataSocket = "control.sock"

// SocketPath is where the host of a data folder listens: control.sock in the folder or, where that path is too long for a
// socket, c.sock in a folder of its own under the temporary one.
func SocketPath(dataDir string) (string, error) {
	abs, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(abs, dataSocket)
	if len(path) <= maxSocketPath {
		return path, nil
	}
	sum := sha256.Sum256([]byte(abs))
	return filepath.Join(os.TempDir(), fmt.Sprintf("grapnel-%d-%s", os.Getuid(), hex.EncodeToString(sum[:6])), "c.sock"), nil
}

// Listen opens the socket for this user alone. The caller holds the data folder's lock, so a socket that is there is a
// leftover of a host that was killed.
func Listen(dataDir string) (net.Listener, error) {
	path, err := SocketPath(dataDir)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if filepath.Base(path) != dataSocket {
		// In the temporary folder anybody may have made it before us.
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("control API: %s is not a folder of this user alone: remove it", dir)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control API: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// Running reports whether a host takes commands on a data folder. One that starts or ends does not.
func Running(dataDir string) bool {
	path, err := SocketPath(dataDir)
	if err != nil {
		return false
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
