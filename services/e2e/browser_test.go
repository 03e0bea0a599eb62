package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// browser is a headless Chromium with one tab.
type browser struct {
	*testing.T
	ctx  context.Context //nolint:containedctx // the tab is a context in chromedp
	base string
	axe  string // the source of axe-core, which finds what isn't accessible
}

// startBrowser starts one at the pages under base. Without a Chromium the test is
// skipped, except where everything must be tried.
func startBrowser(t *testing.T, base string) *browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		absent(t, "a browser (Debian: chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(2*time.Minute),
	)
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, endTab := chromedp.NewContext(alloc)
	t.Cleanup(func() { endTab(); endAlloc() })
	b := &browser{T: t, ctx: ctx, base: base, axe: axeSource(t)}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("start the browser: ", err)
	}
	var endTime context.CancelFunc
	b.ctx, endTime = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(endTime)
	return b
}

// absent ends a test for want of something, as a failure where everything must be
// tried.
func absent(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("missing: ", what)
	}
	t.Skip("missing: ", what)
}

const axePackage = "axe-core@4.14.1"

// axeSource gets axe-core from the npm registry, once for all tests of a user.
func axeSource(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tercel", axePackage)
	file := filepath.Join(dir, "package", "axe.min.js")
	if _, err := os.Stat(file); err != nil {
		npm, err := exec.LookPath("npm")
		if err != nil {
			absent(t, "npm, which brings "+axePackage)
		}
		fresh := t.TempDir()
		for _, args := range [][]string{
			{npm, "pack", "--silent", axePackage, "--pack-destination", fresh},
			{"tar", "-xzf", filepath.Join(fresh, "axe-core-4.14.1.tgz"), "-C", fresh, "package/axe.min.js"},
		} {
			if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o700), os.Rename(fresh, dir)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(source)
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	b.check(chromedp.Do(b.ctx, actions...))
}

// check ends the test for an error, with what the page says.
func (b *browser) check(err error) {
	b.Helper()
	if err != nil {
		at, _ := evaluate[string](b, `document.body.innerText`)
		b.Fatalf("%v; the page says:\n%.2000s", err, at)
	}
}

// evaluate returns what a script gives, its promise waited for. The debugger runs
// it, which the page's policy doesn't bind.
func evaluate[T any](b *browser, script string) (T, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise, chromedp.EvalAsValue))
}

// open goes to a page.
func (b *browser) open(path string) {
	b.Helper()
	b.run(chromedp.Navigate(b.base+path), chromedp.WaitVisible(chromedp.CSS("main")))
}

// text is what a part of the page says.
func (b *browser) text(selector string) string {
	b.Helper()
	text, err := evaluate[string](b, `document.querySelector(`+quoted(selector)+`)?.innerText ?? ""`)
	b.check(err)
	return text
}

// until waits for a part of the page, which renews itself, to say something.
func (b *browser) until(selector, want string) {
	b.Helper()
	eventually(b.T, time.Minute, selector+" says "+want, func() error {
		text, err := evaluate[string](b, `document.querySelector(`+quoted(selector)+`)?.innerText ?? ""`)
		if err != nil {
			return err
		}
		if !strings.Contains(text, want) {
			page, _ := evaluate[string](b, `document.body.innerText`)
			return fmt.Errorf("it says %q; the page says:\n%.1500s", text, page)
		}
		return nil
	})
}

// press presses a button or follows a link by its words, and waits for the page
// that comes.
func (b *browser) press(words string) {
	b.Helper()
	find := fmt.Sprintf(`//*[self::button or self::a or self::summary][contains(normalize-space(.), %s)]`, quoted(words))
	b.run(chromedp.WaitVisible(find))
	_, err := chromedp.RunResponse(b.ctx, chromedp.Click(find))
	b.check(err)
	b.run(chromedp.WaitVisible(chromedp.CSS("main")))
}

// fill writes into a field.
func (b *browser) fill(selector, text string) {
	b.Helper()
	b.run(chromedp.SetValue(chromedp.CSS(selector), text))
}

func quoted(text string) string {
	q, _ := json.Marshal(text)
	return string(q)
}

// look checks a page in both themes and at the width of a phone: that nothing on
// it keeps people out, by axe-core's serious rules, that it is no wider than the
// window, and that it loaded nothing that was refused. With TERCEL_SCREENSHOTS
// set to a folder it leaves pictures there.
func (b *browser) look(name string) {
	b.Helper()
	for _, theme := range []string{"light", "dark"} {
		for width, device := range map[int64]string{1280: "wide", 390: "phone"} {
			_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
			})
			b.check(err)
			b.run(chromedp.EmulateViewport(width, 900))
			b.accessible(name + " " + theme + " " + device)
			wide, err := evaluate[bool](b, `document.documentElement.scrollWidth > window.innerWidth`)
			if b.check(err); wide {
				b.Errorf("%s, %s: the page is wider than the window", name, device)
			}
			if dir := os.Getenv("TERCEL_SCREENSHOTS"); dir != "" {
				png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
				b.check(err)
				if err := os.WriteFile(filepath.Join(dir, name+"-"+theme+"-"+device+".png"), png, 0o600); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.run(chromedp.EmulateViewport(1280, 900))
}

// accessible reports what axe-core finds that is serious or critical.
func (b *browser) accessible(where string) {
	b.Helper()
	found, err := evaluate[[]struct {
		ID, Impact, Help string
		Nodes            []string
	}](b, b.axe+`; axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v =>
		({ID: v.id, Impact: v.impact, Help: v.help, Nodes: v.nodes.slice(0, 3).map(n => n.html)})))`)
	b.check(err)
	for _, v := range found {
		if v.Impact == "serious" || v.Impact == "critical" {
			b.Errorf("%s: %s (%s): %s: %+v", where, v.ID, v.Impact, v.Help, v.Nodes)
		}
	}
}
