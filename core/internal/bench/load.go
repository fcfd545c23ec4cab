package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	benchSecret = "a secret for the benchmark only"
	keysPerConn = 16
)

// event is the body of a Youforce webhook of a usual size. %s are the key (the record's id) and the event's number.
const eventHead = `{"id":"`
const eventMiddle = `","operation":"Update","tenantId":"123456","changedFields":{"hireDate":{"oldValue":"2025-07-03","newValue":"2024-07-03"},` +
	`"workingAmount.amountOfWork":{"oldValue":62690.0,"newValue":40.0}},"timestamp":"2025-07-03T10:12:35.4877275+00:00",` +
	`"value":{"id":"843847 5","personCode":"843847","personId":"843847","contractCode":"5","validFrom":"1900-01-01",` +
	`"validUntil":"9999-12-31","employmentCode":"5","hireDate":"2024-07-03","company":"23625 101","employmentType":"327",` +
	`"employmentTypeName":"Employment Type","contractType":"6262","contractTypeName":"Contract Type ED","jobProfile":"518869",` +
	`"jobProfileName":"Job Profile","organizationUnit":"94649","emailAddresses":[],"phoneNumbers":[],` +
	`"workingAmount":{"amountOfWork":40.0,"parttimePercentage":100.0,"unitOfWork":"Hours","periodOfWork":"Week"},"number":`
const eventTail = `,"extensions":[]}}`

// client is one connection and the keys that only it sends, so that the order of a key's events is known.
type client struct {
	id     string // unique in the run
	conn   net.Conn
	r      *bufio.Reader
	mac    hash.Hash
	buf    []byte
	body   []byte
	sum    []byte
	counts [keysPerConn]int64
	turn   int
	path   string
	event  string // name of the event
}

func dial(ctx context.Context, address, path, id string) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{
		id: id, conn: conn, r: bufio.NewReaderSize(conn, 4096), mac: hmac.New(sha256.New, []byte(benchSecret)), path: path,
		event: "EMPLOYMENT_CHANGED",
	}, nil
}

// key is the name of the client's k-th key.
func (c *client) key(k int) string { return c.id + " " + strconv.Itoa(k) }

// send posts the next event and waits for the answer.
func (c *client) send() error {
	k := c.turn
	c.turn = (c.turn + 1) % keysPerConn
	number := c.counts[k]
	c.counts[k]++

	c.body = append(c.body[:0], eventHead...)
	c.body = append(c.body, c.key(k)...)
	c.body = append(c.body, eventMiddle...)
	c.body = strconv.AppendInt(c.body, number, 10)
	c.body = append(c.body, eventTail...)
	c.mac.Reset()
	c.mac.Write(c.body)
	c.sum = c.mac.Sum(c.sum[:0])

	c.buf = append(c.buf[:0], "POST "...)
	c.buf = append(c.buf, c.path...)
	c.buf = append(c.buf, " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nX-Vwd-Event-Id: "...)
	c.buf = append(c.buf, c.event...)
	c.buf = append(c.buf, "\r\nX-Vwd-Notification-Id: "...)
	c.buf = append(c.buf, c.key(k)...)
	c.buf = append(c.buf, '/')
	c.buf = strconv.AppendInt(c.buf, number, 10)
	c.buf = append(c.buf, "\r\nX-VWD-Signature-V1: "...)
	c.buf = base64.StdEncoding.AppendEncode(c.buf, c.sum)
	c.buf = append(c.buf, "\r\nContent-Length: "...)
	c.buf = strconv.AppendInt(c.buf, int64(len(c.body)), 10)
	c.buf = append(c.buf, "\r\n\r\n"...)
	c.buf = append(c.buf, c.body...)
	if _, err := c.conn.Write(c.buf); err != nil {
		return err
	}
	return c.answer()
}

// answer reads a response without a body to speak of.
func (c *client) answer() error {
	status, err := c.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if len(status) < 12 || status[9] != '2' {
		return fmt.Errorf("the answer is %q", status)
	}
	length := 0
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(v))); err != nil {
				return err
			}
		}
	}
	_, err = c.r.Discard(length)
	return err
}

// load is what a load did.
type load struct {
	events   int64
	took     time.Duration
	answered []time.Duration // latency of each
	sunk     []time.Duration // until it was in the sink's file; open loop only
	sent     map[string]time.Time
	clients  []*client
}

// runLoad has n clients send until the duration is over. Without a rate each sends as soon as it is answered; with one,
// the clients send in turn at fixed times, and a latency counts from that time.
func runLoad(ctx context.Context, address, path, name string, n, rate int, duration time.Duration) (*load, error) {
	l := &load{clients: make([]*client, n)}
	for i := range n {
		c, err := dial(ctx, address, path, fmt.Sprintf("%s-%d", name, i))
		if err != nil {
			return nil, err
		}
		defer c.conn.Close()
		l.clients[i] = c
	}
	var (
		wg     sync.WaitGroup
		failed atomic.Pointer[error]
		mu     sync.Mutex
	)
	start := time.Now()
	end := start.Add(duration)
	if rate > 0 {
		l.sent = map[string]time.Time{}
	}
	for i, c := range l.clients {
		wg.Go(func() {
			var latencies []time.Duration
			sent := map[string]time.Time{}
			for k := 0; failed.Load() == nil && ctx.Err() == nil; k++ {
				from := time.Now()
				if rate > 0 {
					from = start.Add(time.Duration(k*n+i) * time.Second / time.Duration(rate))
					time.Sleep(time.Until(from))
				}
				if from.After(end) {
					break
				}
				if rate > 0 {
					sent[c.key(c.turn)+"/"+strconv.FormatInt(c.counts[c.turn], 10)] = from
				}
				if err := c.send(); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				latencies = append(latencies, time.Since(from))
			}
			mu.Lock()
			defer mu.Unlock()
			l.answered = append(l.answered, latencies...)
			for k, v := range sent {
				l.sent[k] = v
			}
		})
	}
	wg.Wait()
	l.took = time.Since(start)
	l.events = int64(len(l.answered))
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return l, ctx.Err()
}
