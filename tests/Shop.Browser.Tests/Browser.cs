using Microsoft.Playwright;

namespace Shop.Tests;

/// <summary>Debian's Chromium, without a window. Where it is missing tests are skipped, but fail where <c>CI</c> is true.</summary>
public sealed class Browser : IAsyncLifetime
{
    private const string Missing = "chromium is not installed; tests/run.sh installs it (Debian: apt-get install chromium).";

    /// <summary>In milliseconds. A machine may be busy; who is right is not kept waiting.</summary>
    private const float Patience = 30_000;

    private IPlaywright? _playwright;
    private IBrowser? _browser;

    public async ValueTask InitializeAsync()
    {
        if ((Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Append("/usr/bin").Select(folder => Path.Combine(folder, "chromium")).FirstOrDefault(File.Exists) is { } binary)
        {
            Assertions.SetDefaultExpectTimeout(Patience);
            _playwright = await Playwright.CreateAsync();

            // Root, as in a container, has no sandbox.
            _browser = await _playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions { ExecutablePath = binary, Args = ["--no-sandbox"] });
        }
    }

    /// <summary>A window of its own, with no memory of others.</summary>
    public async Task<Window> OpenAsync(int width = 1280, int height = 900, ColorScheme scheme = ColorScheme.Light, ReducedMotion motion = ReducedMotion.NoPreference)
    {
        if (_browser is null)
        {
            Assert.SkipUnless(Environment.GetEnvironmentVariable("CI") == "true", Missing);
            Assert.Fail(Missing);
        }

        IBrowserContext context = await _browser.NewContextAsync(new BrowserNewContextOptions { ViewportSize = new ViewportSize { Width = width, Height = height }, ColorScheme = scheme, ReducedMotion = motion });
        context.SetDefaultTimeout(Patience);
        return new Window(context, await context.NewPageAsync());
    }

    public async ValueTask DisposeAsync()
    {
        if (_browser is not null)
        {
            await _browser.DisposeAsync();
        }

        _playwright?.Dispose();
    }
}

/// <summary>A page, and what went wrong on it.</summary>
public sealed class Window : IAsyncDisposable
{
    private readonly IBrowserContext _context;

    public Window(IBrowserContext context, IPage page)
    {
        (_context, Page) = (context, page);
        page.Console += (_, message) => Note(message.Type is "error" or "warning", $"{message.Type}: {message.Text}");
        page.PageError += (_, error) => Note(true, $"exception: {error}");
        page.RequestFailed += (_, request) => Note(true, $"failed: {request.Url} {request.Failure}");
        page.Response += (_, response) => Note(response.Status >= 400, $"{response.Status}: {response.Url}");
        page.Dialog += (_, dialog) => Note(true, $"dialog: {dialog.Message}");
        page.Request += (_, request) =>
        {
            lock (Asked)
            {
                Asked.Add(new Uri(request.Url));
            }
        };
    }

    public IPage Page { get; }

    public List<Uri> Asked { get; } = [];

    public List<string> Wrong { get; } = [];

    /// <summary>The page, once it shows numbers.</summary>
    internal async Task<IPage> VisitAsync(RunningShop shop, string path = "/")
    {
        await Page.GotoAsync(new Uri(shop.Client.BaseAddress!, path).ToString());
        await Page.Locator("#connection[data-state=live]").WaitForAsync();
        return Page;
    }

    public ValueTask DisposeAsync() => _context.DisposeAsync();

    private void Note(bool isWrong, string what)
    {
        lock (Wrong)
        {
            if (isWrong)
            {
                Wrong.Add(what);
            }
        }
    }
}
