package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	patience = 10 * time.Second // for a client, and for a scrape
	parallel = 4                // scrapes at once
)

// CheckAddress says why addr is no place to listen on. Others than loopback
// must be asked for.
func CheckAddress(addr string, public bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return fmt.Errorf("%q is not HOST:PORT, as in 127.0.0.1:9310", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: its port is not a number up to 65535", addr)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil && host != "" && strings.Trim(host, "0123456789.:") == "" {
		return fmt.Errorf("%s: %s is no address", addr, host) // nor is it a name
	}
	if host == "localhost" || public {
		return nil
	}
	if err != nil || !ip.IsLoopback() {
		return fmt.Errorf("%s can be reached by others, who need no password: listen on 127.0.0.1:%s, or say metrics_public as well", addr, port)
	}
	return nil
}

// A Server answers scrapes.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan struct{}
}

// Listen starts a server.
func Listen(addr string, src Source, log *slog.Logger) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	s := &Server{
		http: &http.Server{
			Handler: handler(src), ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		},
		addr: l.Addr(), done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "err", err)
		}
	}()
	return s, nil
}

// Ended is closed when the server answers nobody any more.
func (s *Server) Ended() <-chan struct{} { return s.done }

// Addr is where the server listens.
func (s *Server) Addr() string { return s.addr.String() }

// Close ends the server, and scrapes that take longer than a moment.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	<-s.done
	return err
}

func handler(src Source) http.Handler {
	reg := registry(src)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		MaxRequestsInFlight: parallel, Timeout: patience,
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "anvilfs %s on %s\n/metrics is for Prometheus\n", src.Label, src.Dir)
	})
	return guard(mux)
}

// guard refuses what a browser sends on behalf of a foreign page that gave
// its own name this address.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if ok && loopback(local.String()) && host != "localhost" && !loopback(net.JoinHostPort(strings.Trim(host, "[]"), "0")) {
			http.Error(w, "this is served to this machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func loopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

func registry(src Source) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(newCollector(src), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
