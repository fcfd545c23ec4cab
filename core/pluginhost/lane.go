package pluginhost

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// lane is a process for one caller at a time, launched when it is needed and stopped when it was idle for a while. It
// serves as quarantine and for Describe and Validate. Its crashes concern its caller alone.
type lane struct {
	ctx   context.Context
	start func(ctx context.Context) (*child, error)
	idle  time.Duration
	turn  chan struct{} // holds one token: whoever has it owns child and opened

	child  *child
	opened map[*instance]string // instances that are open in child
	timer  *time.Timer          // stops an idle child

	mu     sync.Mutex
	pid    int // of the child, for Status
	closed bool
}

func newLane(ctx context.Context, start func(context.Context) (*child, error), idle time.Duration) *lane {
	l := &lane{ctx: ctx, start: start, idle: idle, turn: make(chan struct{}, 1), opened: map[*instance]string{}}
	l.turn <- struct{}{}
	return l
}

// use runs fn alone with a live process. Its error says that fn was not run.
func (l *lane) use(ctx context.Context, fn func(c *child) error) error {
	select {
	case <-l.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return ErrNotReady
	}
	defer func() { l.turn <- struct{}{} }()
	if l.timer != nil {
		l.timer.Stop()
	}
	if l.isClosed() {
		return ErrNotReady
	}
	if l.child != nil {
		select {
		case <-l.child.exited:
			l.drop()
		default:
		}
	}
	if l.child == nil {
		c, err := l.start(ctx)
		if err != nil {
			return err
		}
		c.stopping.Store(false)
		l.child = c
		l.setPID(c.pid)
	}
	err := fn(l.child)
	select {
	case <-l.child.exited:
		l.drop()
	default:
		l.timer = time.AfterFunc(l.idle, l.expire)
	}
	return err
}

// open opens an instance in the lane's process, once per process. It is called from inside of use.
func (l *lane) open(c *child, i *instance) (id string, err error) {
	if id, ok := l.opened[i]; ok {
		return id, nil
	}
	id, _, err = i.open(c)
	if err != nil {
		return "", fmt.Errorf("in quarantine: %w", err)
	}
	l.opened[i] = id
	return id, nil
}

// drop forgets a process that has ended.
func (l *lane) drop() {
	l.child.stopping.Store(true)
	l.child.shutdown()
	l.child = nil
	clear(l.opened)
	l.setPID(0)
}

// expire stops an idle process, unless it is in use again.
func (l *lane) expire() {
	select {
	case <-l.turn:
		l.end(l.ctx)
		l.turn <- struct{}{}
	default:
	}
}

// end stops the process. The caller has the turn.
func (l *lane) end(ctx context.Context) {
	if l.child == nil {
		return
	}
	for i, id := range l.opened {
		i.closeIn(l.child, id)
	}
	l.child.stop(ctx)
	l.drop()
}

// stop ends the lane for good, by ctx's end at the latest.
func (l *lane) stop(ctx context.Context) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	select {
	case <-l.turn:
	case <-ctx.Done():
		// Whoever uses it has no deadline that is ours; without the process its call ends.
		l.mu.Lock()
		pid := l.pid
		l.mu.Unlock()
		if pid != 0 {
			killGroup(pid)
		}
		<-l.turn
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.end(ctx)
	l.turn <- struct{}{}
}

func (l *lane) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *lane) setPID(pid int) {
	l.mu.Lock()
	l.pid = pid
	l.mu.Unlock()
}

func (l *lane) status() (pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pid
}
