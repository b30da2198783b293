// Package browser clicks through the tool's demo and the example shop with a real browser, headless Chromium, over
// real redis-server processes that are killed meanwhile. With SESSIONRING_FIGURES=DIR it leaves the screenshots
// that the documentation shows.
package browser
