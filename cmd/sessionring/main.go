// Command sessionring reads a phpredis session.save_path and shows, tests and mends what stands behind it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	level := new(slog.LevelVar)
	level.Set(levelSilent)
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	// go-redis has one logger for the whole process, and prints to standard error by default.
	redis.SetLogger(redisLogger{logger})
	code := run(ctx, os.Args[1:], streams{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, env: os.LookupEnv, logger: logger, level: level,
	})
	stop()
	os.Exit(code)
}

// redisLogger passes go-redis's messages on.
type redisLogger struct{ logger *slog.Logger }

// Printf logs at debug level: what matters comes back as an error as well.
func (l redisLogger) Printf(ctx context.Context, format string, v ...any) {
	l.logger.DebugContext(ctx, fmt.Sprintf(format, v...), "from", "go-redis")
}
