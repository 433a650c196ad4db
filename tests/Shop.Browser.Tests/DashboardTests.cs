using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace Shop.Tests;

/// <summary>The dashboard as people see it, in a browser.</summary>
public sealed class DashboardTests(Browser browser) : IClassFixture<Browser>
{
    private const string Contrast = """
        () => {
          const parse = text => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
          const over = (top, low) => ({ r: top.r * top.a + low.r * (1 - top.a), g: top.g * top.a + low.g * (1 - top.a), b: top.b * top.a + low.b * (1 - top.a), a: 1 });
          const light = value => { const v = value / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
          const luminance = c => 0.2126 * light(c.r) + 0.7152 * light(c.g) + 0.0722 * light(c.b);
          const behind = element => element === null ? parse('rgb(255, 255, 255)') : over(parse(getComputedStyle(element).backgroundColor), behind(element.parentElement));
          const opacity = element => element === null ? 1 : Number(getComputedStyle(element).opacity) * opacity(element.parentElement);
          const found = [];
          for (const element of document.querySelectorAll('body *')) {
            const own = element.matches('input[type=number]') || [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
            if (!own || element.closest('svg, .unseen, .skip, noscript') || !element.checkVisibility()) continue;
            const low = behind(element), ink = parse(getComputedStyle(element).color);
            const seen = over({ ...ink, a: ink.a * opacity(element) }, low);
            const [a, b] = [luminance(seen), luminance(low)].sort((one, other) => other - one);
            found.push({ words: (element.value ?? element.textContent).trim().slice(0, 40), ratio: (a + 0.05) / (b + 0.05) });
          }
          return found;
        }
        """;

    [Fact]
    public async Task The_page_loads_without_an_error_and_asks_nobody_but_the_shop()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();

        IPage page = await window.VisitAsync(shop);
        await Expect(page.Locator("#circuit .now")).ToHaveTextAsync("closed");
        await Expect(page.Locator("#incident")).ToHaveTextAsync("payments: healthy");
        await Expect(page.Locator("#orders .answer")).ToHaveTextAsync("None yet.");

        window.Wrong.Should().BeEmpty();
        window.Asked.Select(asked => asked.GetLeftPart(UriPartial.Authority)).Distinct().Should().Equal(shop.Client.BaseAddress!.GetLeftPart(UriPartial.Authority));
        window.Asked.Select(asked => asked.AbsolutePath).Should().Contain(["/", "/dashboard.css", "/dashboard.js", "/dashboard.svg", "/events", "/orders"]);
    }

    [Fact]
    public async Task Charts_move_while_orders_come_and_say_their_numbers_in_words()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);
        await page.GetByLabel("per second").FillAsync("10");
        await page.GetByLabel("for seconds").FillAsync("60");
        await page.GetByRole(AriaRole.Button, new() { Name = "Start" }).ClickAsync();

        await Expect(page.Locator("#answers .legend")).ToContainTextAsync("201 paid");
        foreach (string chart in new[] { "answers", "latency", "budget", "replays", "deliveries" })
        {
            ILocator drawn = page.Locator($"#{chart} svg path:not(.incident)").First;
            await Expect(drawn).ToHaveAttributeAsync("d", new Regex("^M"));
            await Expect(drawn).Not.ToHaveAttributeAsync("d", (await drawn.GetAttributeAsync("d"))!);
        }

        await Expect(page.GetByRole(AriaRole.Img, new() { NameRegex = new Regex("^Orders answered, last three minutes. Now [0-9.]+.s. 201 paid [0-9.]+.s, most [0-9.]*[1-9]") })).ToBeVisibleAsync();
        await Expect(page.GetByRole(AriaRole.Img, new() { NameRegex = new Regex("^Circuit to payments, last three minutes. Now [a-z-]+. Open [0-9]+ %, half-open [0-9]+ %, closed [0-9]+ %") })).ToBeVisibleAsync();
        await Expect(page.Locator("#limit .now")).ToHaveTextAsync(new Regex("^[0-9]+ of 2000$"));
        await Expect(page.Locator("#orders tbody tr")).ToHaveCountAsync(10);
        window.Wrong.Should().NotContain(wrong => wrong.StartsWith("exception"), "a busy shop may be late, but the page is not confused by it");
    }

    [Fact]
    public async Task Payments_told_to_fail_opens_the_circuit_on_the_page()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);

        await page.GetByRole(AriaRole.Radio, new() { Name = "failing" }).CheckAsync();
        await page.GetByRole(AriaRole.Button, new() { Name = "Apply" }).ClickAsync();
        await Expect(page.Locator("#incident")).ToHaveTextAsync("payments: failing, 100 % of calls");
        await page.GetByRole(AriaRole.Button, new() { Name = "Start" }).ClickAsync();

        await Expect(page.Locator("#circuit svg path.red").First).ToHaveAttributeAsync("d", new Regex("^M"));
        await Expect(page.Locator("#circuit .legend")).ToContainTextAsync(new Regex("opened [1-9][0-9]* times, answered [1-9]"));
        await Expect(page.Locator("#answers .legend")).ToContainTextAsync("503 come back later");
        await Expect(page.Locator("#retries svg path.amber")).ToHaveAttributeAsync("d", new Regex("^M"));
        await Expect(page.Locator("#circuit-news")).ToHaveTextAsync("The circuit to payments has opened.");
        window.Wrong.Should().NotContain(wrong => wrong.StartsWith("exception"), "a busy shop may be late, but the page is not confused by it");
    }

    [Fact]
    public async Task The_form_shows_how_payments_is_until_somebody_changes_it()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);
        ILocator Mode(string name) => page.GetByRole(AriaRole.Radio, new() { Name = name });

        await Expect(Mode("healthy")).ToBeCheckedAsync();
        await shop.TellPaymentsAsync("failing", 0.4);
        await Expect(Mode("failing")).ToBeCheckedAsync();
        await Expect(page.GetByLabel("Share of calls")).ToHaveValueAsync("40");
        await Mode("hanging").CheckAsync();
        await shop.TellPaymentsAsync("slow");
        await Expect(page.Locator("#incident")).ToContainTextAsync("slow");
        await Expect(Mode("hanging")).ToBeCheckedAsync();
    }

    [Fact]
    public async Task A_page_for_which_there_is_no_seat_says_so_and_gets_one_when_there_is()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        HttpResponseMessage[] seats = await Task.WhenAll(Enumerable.Range(0, 32).Select(_ => shop.Client.GetAsync("events", HttpCompletionOption.ResponseHeadersRead)));
        await using Window window = await browser.OpenAsync();
        IPage page = window.Page;
        await page.GotoAsync(shop.Client.BaseAddress!.ToString());

        await Expect(page.Locator("#banner")).ToContainTextAsync("Too many listen. At most 32");
        Array.ForEach(seats, seat => seat.Dispose());
        await Expect(page.Locator("#connection")).ToHaveTextAsync("live", new() { Timeout = 30_000 });
    }

    [Fact]
    public async Task Slow_payments_the_broken_customer_and_the_load_are_shown_as_they_are()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);

        await page.GetByRole(AriaRole.Radio, new() { Name = "slow" }).CheckAsync();
        await page.GetByLabel("Share of calls").FillAsync("50");
        await page.GetByLabel("Delay when slow").FillAsync("120");
        await page.GetByRole(AriaRole.Button, new() { Name = "Apply" }).ClickAsync();
        await page.GetByRole(AriaRole.Button, new() { Name = "Break it" }).ClickAsync();
        await page.GetByLabel("for seconds").FillAsync("60");
        await page.GetByRole(AriaRole.Button, new() { Name = "Start" }).ClickAsync();

        await Expect(page.Locator("#incident")).ToHaveTextAsync("payments: slow by 120 ms, 50 % of calls");
        await Expect(page.Locator("#customer-state")).ToHaveTextAsync("is broken: it answers 500.");
        await Expect(page.Locator("#progress")).ToHaveTextAsync(new Regex("^Runs: [0-9]+ of 1200 orders sent"));
        await Expect(page.Locator("#backlog .now")).Not.ToHaveTextAsync("0");
        await Expect(page.Locator("#deliveries svg path.red")).ToHaveAttributeAsync("d", new Regex("^M"));

        await page.GetByRole(AriaRole.Button, new() { Name = "Stop" }).ClickAsync();
        await page.GetByRole(AriaRole.Button, new() { Name = "Mend it" }).ClickAsync();

        await Expect(page.Locator("#progress")).ToHaveTextAsync(new Regex("^Ended: "));
        await Expect(page.Locator("#customer-state")).ToHaveTextAsync("is well.");
        await page.GetByRole(AriaRole.Button, new() { Name = "Stop" }).ClickAsync();
        await Expect(page.Locator("#load .answer.refused")).ToHaveTextAsync("Only a load that runs can be stopped. Start one.");
    }

    [Fact]
    public async Task A_shop_that_goes_away_is_said_to_be_lost_and_when_it_is_back_the_page_goes_on()
    {
        int port = FreePort();
        await using Window window = await browser.OpenAsync();
        IPage page = window.Page;
        await using (RunningShop first = await RunningShop.StartAsync($"--urls=http://127.0.0.1:{port}"))
        {
            await window.VisitAsync(first);
        }

        await Expect(page.Locator("#connection")).ToHaveTextAsync(new Regex("^lost since [0-9]{2}:[0-9]{2}:[0-9]{2}$"));
        await Expect(page.Locator("#banner")).ToContainTextAsync("The connection to the shop is lost since ");
        await Expect(page.Locator("#connection-news")).ToContainTextAsync("The connection to the shop is lost since ");
        (await page.Locator("#charts").EvaluateAsync<string>("element => getComputedStyle(element).filter")).Should().Be("grayscale(1)");
        (await RatiosAsync(page)).Should().OnlyContain(found => found.Ratio >= 4.5, "what is out of date is still to be read");

        await using RunningShop second = await RunningShop.StartAsync($"--urls=http://127.0.0.1:{port}");

        await Expect(page.Locator("#connection")).ToHaveTextAsync("live");
        await Expect(page.Locator("#banner")).ToContainTextAsync(new Regex("^Live again at [0-9:]+, after [0-9]+ s without news.$"));
        (await page.Locator("#charts").EvaluateAsync<string>("element => getComputedStyle(element).filter")).Should().Be("none");
    }

    [Fact]
    public async Task A_connection_that_is_open_and_brings_nothing_is_said_to_be_stale()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        await (await window.VisitAsync(shop)).GotoAsync("about:blank");
        await window.Page.AddInitScriptAsync("window.EventSource = class extends EventSource { addEventListener(type, heard) { if (type !== 'samples') super.addEventListener(type, heard); } };");

        IPage page = await window.VisitAsync(shop);

        await Expect(page.Locator("#connection")).ToHaveTextAsync(new Regex("^stale since [0-9:]+$"));
        await Expect(page.Locator("#banner")).ToContainTextAsync("The connection is open, but no news have come since ");
    }

    [Theory]
    [InlineData("<img src=x onerror=\"document.title='injected'\">")]
    [InlineData("\"><script>document.title='injected'</script>")]
    public async Task What_a_customer_orders_is_shown_as_text_and_never_runs(string item)
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        (await shop.OrderAsync(item, 1205)).EnsureSuccessStatusCode();
        await using Window window = await browser.OpenAsync();

        IPage page = await window.VisitAsync(shop);

        await Expect(page.Locator("#orders tbody td").First).ToHaveTextAsync(item);
        await Expect(page.Locator("#orders tbody td").Nth(1)).ToHaveTextAsync("12.05");
        (await page.Locator("#orders tbody").EvaluateAsync<int>("body => body.querySelectorAll('td *').length")).Should().Be(0);
        (await page.TitleAsync()).Should().Be("Shop: circuit closed");
        window.Wrong.Should().BeEmpty();
    }

    [Fact]
    public async Task A_script_in_the_page_itself_would_not_run_either()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);

        await page.EvaluateAsync("() => document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"document.title = 1\"><div style=\"width: 7px\" id=\"inline\"></div>')");

        await RealTime.UntilAsync(() => Task.FromResult(window.Wrong.Any(wrong => wrong.Contains("Content Security Policy", StringComparison.Ordinal))), "the policy refuses");
        (await page.TitleAsync()).Should().NotBe("1");
        (await page.Locator("#inline").EvaluateAsync<string>("element => element.style.width")).Should().BeEmpty();
    }

    [Theory]
    [InlineData(360, ColorScheme.Light)]
    [InlineData(360, ColorScheme.Dark)]
    [InlineData(768, ColorScheme.Light)]
    public async Task Nothing_is_wider_than_the_screen(int width, ColorScheme scheme)
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        (await shop.OrderAsync(new string('W', 100))).EnsureSuccessStatusCode();
        await shop.TellPaymentsAsync("slow", ratio: 0.5, delayMs: 60_000);
        await using Window window = await browser.OpenAsync(width, 740, scheme);

        IPage page = await window.VisitAsync(shop);
        await Expect(page.Locator("#orders tbody tr")).ToHaveCountAsync(1);
        await Expect(page.Locator("#incident")).ToContainTextAsync("slow by 60000 ms");

        (await page.EvaluateAsync<int>("() => document.documentElement.scrollWidth")).Should().BeLessThanOrEqualTo(width);
        (await page.EvaluateAsync<string[]>("() => [...document.querySelectorAll('.card, .card *, header *')].filter(element => !element.closest('.unseen') && element.getBoundingClientRect().right > innerWidth + 0.5).map(element => element.outerHTML.slice(0, 80))")).Should().BeEmpty();
    }

    [Theory]
    [InlineData(ColorScheme.Light)]
    [InlineData(ColorScheme.Dark)]
    public async Task Every_word_stands_out_from_what_is_behind_it(ColorScheme scheme)
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await shop.TellPaymentsAsync("failing", ratio: 0.5);
        using HttpResponseMessage order = await shop.OrderAsync();
        await using Window window = await browser.OpenAsync(scheme: scheme);
        IPage page = await window.VisitAsync(shop);
        await page.GetByRole(AriaRole.Button, new() { Name = "Stop" }).ClickAsync();
        await Expect(page.Locator("#load .answer.refused")).ToBeVisibleAsync();
        await Expect(page.Locator("#orders tbody tr")).ToHaveCountAsync(1);

        Found[] found = await RatiosAsync(page);

        (await page.EvaluateAsync<bool>("() => matchMedia('(prefers-color-scheme: dark)').matches")).Should().Be(scheme == ColorScheme.Dark);
        found.Should().HaveCountGreaterThan(40).And.OnlyContain(word => word.Ratio >= 4.5);
    }

    [Fact]
    public async Task The_keyboard_alone_works_every_control_and_shows_where_it_is()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);
        List<string> visited = [];

        await TabAsync("Skip to the charts");
        await TabAsync("healthy");
        await page.Keyboard.PressAsync("ArrowRight");
        await page.Keyboard.PressAsync("ArrowRight");
        await TabAsync("share");
        await TabAsync("delay");
        await TabAsync("Apply");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#incident")).ToHaveTextAsync("payments: failing, 100 % of calls");
        await TabAsync("perSecond");
        await page.Keyboard.PressAsync("Control+A");
        await page.Keyboard.TypeAsync("5");
        await TabAsync("seconds");
        await TabAsync("Start");
        await page.Keyboard.PressAsync("Space");
        await Expect(page.Locator("#progress")).ToContainTextAsync("of 150 orders sent");
        await TabAsync("Stop");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#progress")).ToContainTextAsync("Ended");
        await TabAsync("Break it");
        await page.Keyboard.PressAsync("Enter");
        await Expect(page.Locator("#customer-state")).ToContainTextAsync("broken");
        await TabAsync("All");

        async Task TabAsync(string where)
        {
            await page.Keyboard.PressAsync("Tab");
            string[] focus = await page.EvaluateAsync<string[]>("""
                () => {
                  const focus = document.activeElement, shown = focus.matches('[type=radio]') ? focus.nextElementSibling : focus, style = getComputedStyle(shown);
                  return [focus.type === 'radio' ? focus.value : focus.name || focus.textContent, `${style.outlineStyle} ${parseFloat(style.outlineWidth) >= 2}`];
                }
                """);
            focus.Should().Equal(where, "solid true");
        }
    }

    [Fact]
    public async Task Who_wants_no_motion_gets_none()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window still = await browser.OpenAsync(motion: ReducedMotion.Reduce), lively = await browser.OpenAsync();
        const string Moving = "() => [...document.querySelectorAll('*')].filter(element => parseFloat(getComputedStyle(element).transitionDuration) > 0 || element.getAnimations().length > 0).length";

        int few = await (await still.VisitAsync(shop)).EvaluateAsync<int>(Moving), some = await (await lively.VisitAsync(shop)).EvaluateAsync<int>(Moving);

        few.Should().Be(0);
        some.Should().BePositive("else nothing was measured");
    }

    [Fact]
    public async Task A_screen_reader_finds_landmarks_headings_names_and_few_live_regions()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Window window = await browser.OpenAsync();

        IPage page = await window.VisitAsync(shop);

        await Expect(page.GetByRole(AriaRole.Banner)).ToHaveCountAsync(1);
        await Expect(page.GetByRole(AriaRole.Main)).ToHaveCountAsync(1);
        await Expect(page.GetByRole(AriaRole.Contentinfo)).ToHaveCountAsync(1);
        await Expect(page.GetByRole(AriaRole.Region)).ToHaveCountAsync(3);
        await Expect(page.GetByRole(AriaRole.Heading, new() { Level = 1 })).ToHaveTextAsync(["Shop"]);
        await Expect(page.GetByRole(AriaRole.Heading, new() { Level = 2 })).ToHaveTextAsync(["Controls", "The last three minutes", "Orders, newest first"]);
        await Expect(page.GetByRole(AriaRole.Group, new() { Name = "Payments is" }).GetByRole(AriaRole.Radio)).ToHaveCountAsync(4);
        await Expect(page.GetByRole(AriaRole.Img)).ToHaveCountAsync(10);
        (await page.EvaluateAsync<int>("() => [...document.querySelectorAll('input, button')].filter(control => !(control.labels?.length || control.textContent.trim())).length")).Should().Be(0);
        (await page.EvaluateAsync<int>("() => document.querySelectorAll('[role=img]:not([aria-label*=\"Now \"])').length")).Should().Be(0);
        (await page.EvaluateAsync<string[]>("() => [...document.querySelectorAll('[role=status], [aria-live], output')].filter(region => region.querySelector('svg') || region.closest('figure')).map(region => region.outerHTML)")).Should().BeEmpty("a region that speaks each second would drown all else");
        (await page.Locator("html").GetAttributeAsync("lang")).Should().Be("en");
    }

    [Fact]
    public async Task Orders_are_leafed_through_by_links_and_filtered_by_status()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        for (int i = 0; i < 12; i++)
        {
            using HttpResponseMessage order = await shop.OrderAsync($"item {i}", i == 0 ? 500_000 : 1250);
        }

        await using Window window = await browser.OpenAsync();
        IPage page = await window.VisitAsync(shop);
        ILocator items = page.Locator("#orders tbody td:first-child");

        await page.GetByRole(AriaRole.Link, new() { Name = "Older" }).ClickAsync();
        await Expect(items).ToHaveTextAsync(["item 1", "item 0"]);
        await page.GetByRole(AriaRole.Link, new() { Name = "Newer" }).ClickAsync();
        await Expect(items).ToHaveCountAsync(10);
        await page.GetByRole(AriaRole.Link, new() { Name = "Declined" }).ClickAsync();
        await Expect(items).ToHaveTextAsync(["item 0"]);
        await Expect(page.Locator("[aria-current=page]")).ToHaveTextAsync(["Declined"]);
        await window.VisitAsync(shop, "/?cursor=nonsense");
        await Expect(page.Locator("#orders .answer")).Not.ToBeEmptyAsync();
    }

    private static async Task<Found[]> RatiosAsync(IPage page) => await page.EvaluateAsync<Found[]>(Contrast);

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private sealed record Found(string Words, double Ratio)
    {
        public Found()
            : this("", 0)
        {
        }
    }
}
