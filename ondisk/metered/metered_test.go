package metered

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/anvilfs/anvilfs/ondisk"
	"github.com/anvilfs/anvilfs/ondisk/devicetest"
	"github.com/anvilfs/anvilfs/ondisk/faultdev"
	"github.com/anvilfs/anvilfs/ondisk/memdev"
)

func TestDevice(t *testing.T) {
	devicetest.Run(t, func(t *testing.T) (ondisk.Device, func() ondisk.Device) {
		m, mem := new(Meter), memdev.New(devicetest.Size)
		return m.Wrap(mem), func() ondisk.Device { mem.Reopen(); return m.Wrap(mem) }
	})
}

func TestNumbers(t *testing.T) {
	var m Meter
	fault := faultdev.New(memdev.New(1 << 20))
	dev := m.Wrap(fault)
	p := make([]byte, 4096)
	for range 3 {
		if _, err := dev.WriteAt(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := dev.ReadAt(p[:1024], 0); err != nil {
		t.Fatal(err)
	}
	if _, err := dev.ReadAt(p, 1<<20-1024); err == nil { // the end is no failure
		t.Fatal("no end")
	}
	if err := dev.Flush(); err != nil {
		t.Fatal(err)
	}
	fault.Add(faultdev.Rule{On: faultdev.Flush})
	if err := dev.Flush(); err == nil {
		t.Fatal("a flush that fails succeeded")
	}
	r := m.Report()
	if r.Write.Took.Count() != 3 || r.Write.Bytes != 3*4096 || r.Write.Failed != 0 {
		t.Errorf("writes: %+v", r.Write)
	}
	if r.Read.Took.Count() != 2 || r.Read.Bytes != 2048 || r.Read.Failed != 0 {
		t.Errorf("reads: %+v", r.Read)
	}
	if r.Flush.Took.Count() != 2 || r.Flush.Failed != 1 || r.Flush.Bytes != 0 {
		t.Errorf("flushes: %+v", r.Flush)
	}
	if m.Oldest() != 0 {
		t.Errorf("a request has been out for %v, and none is", m.Oldest())
	}
	if r.Queue != 0 {
		t.Errorf("%d requests are out, and none is", r.Queue)
	}
}

// The oldest request counts, whatever came and went since.
func TestOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m Meter
		fault := faultdev.New(memdev.New(1<<20), faultdev.Rule{Do: faultdev.Hang, On: faultdev.Flush, Times: 2})
		dev := m.Wrap(fault)
		go dev.Flush()
		<-time.After(time.Second)
		go dev.Flush()
		<-time.After(time.Second)
		if _, err := dev.ReadAt(make([]byte, 512), 0); err != nil {
			t.Fatal(err)
		}
		if d := m.Oldest(); d != 2*time.Second || m.Report().Queue != 2 {
			t.Errorf("out for %v, %d requests", d, m.Report().Queue)
		}
		fault.Release()
		synctest.Wait()
		if d := m.Oldest(); d != 0 {
			t.Errorf("out for %v after all have returned", d)
		}
	})
}
