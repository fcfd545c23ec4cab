package sqlite

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/grapnelhq/grapnel/core/store"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// applicationID marks the file as Grapnel's: "Grpn".
const applicationID = 0x4772706e

// migrate brings the schema to the version of this binary. PRAGMA user_version counts the files that were applied. A
// database that holds something is copied first.
func migrate(ctx context.Context, c *conn, path string, files fs.FS, log hclog.Logger) error {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return err
	}
	version, err := pragma(c, "user_version")
	if err != nil {
		return err
	}
	app, err := pragma(c, "application_id")
	if err != nil {
		return err
	}
	switch {
	case version > 0 && app != applicationID:
		return errors.New("this is a database of another program")
	case version > int64(len(names)):
		return fmt.Errorf("%w: schema version %d, this grapnel knows %d", store.ErrNewer, version, len(names))
	case version == int64(len(names)):
		return nil
	case version == 0:
		var tables int64
		st, err := c.stmt("SELECT count(*) FROM sqlite_schema")
		if err != nil {
			return err
		}
		if _, err := st.row(func() { tables = st.ColumnInt64(0) }); err != nil {
			return err
		}
		if tables > 0 {
			return errors.New("this is a database of another program")
		}
	default:
		backup := fmt.Sprintf("%s.v%d-%s.backup", path, version, time.Now().UTC().Format("20060102T150405Z"))
		log.Info("copying the database before its migration", "path", backup, "from", version, "to", len(names))
		if err := sqlitex.ExecuteTransient(c.Conn, "VACUUM INTO ?", &sqlitex.ExecOptions{Args: []any{backup}}); err != nil {
			return fmt.Errorf("copy the database before its migration: %w", mapError(err))
		}
		if err := os.Chmod(backup, 0o600); err != nil {
			return err
		}
	}
	for i, name := range names[version:] {
		if err := ctx.Err(); err != nil {
			return err
		}
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		// One transaction each, with the new version number in it.
		text := fmt.Sprintf("%s;\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\n",
			script, applicationID, version+int64(i)+1)
		if err := sqlitex.ExecuteScript(c.Conn, text, nil); err != nil {
			return fmt.Errorf("migration %s: %w", name, mapError(err))
		}
	}
	return nil
}

func pragma(c *conn, name string) (v int64, err error) {
	st, err := c.stmt("PRAGMA " + name)
	if err != nil {
		return 0, err
	}
	_, err = st.row(func() { v = st.ColumnInt64(0) })
	return v, err
}

func pragmaText(c *conn, name string) (v string, err error) {
	st, err := c.stmt("PRAGMA " + name)
	if err != nil {
		return "", err
	}
	_, err = st.row(func() { v = st.ColumnText(0) })
	return v, err
}
