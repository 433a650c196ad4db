using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Net.ServerSentEvents;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Backend.Toolkit.Webhooks;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.HttpResults;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;

namespace Shop.Tests;

/// <summary>What stands behind the dashboard: the events, the controls and who may use them.</summary>
public sealed class DashboardEndpointTests
{
    private const string Evil = "http://evil.example";

    private static readonly JsonSerializerOptions Json = new(JsonSerializerDefaults.Web) { Converters = { new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) } };

    [Theory]
    [InlineData("/", "text/html")]
    [InlineData("/dashboard.css", "text/css")]
    [InlineData("/dashboard.js", "text/javascript")]
    [InlineData("/dashboard.svg", "image/svg+xml")]
    public async Task The_page_and_its_files_allow_nothing_but_themselves_and_are_asked_for_once(string path, string type)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Client.GetAsync(path);
        using var again = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { IfNoneMatch = { response.Headers.ETag! } } };
        using HttpResponseMessage unchanged = await shop.Client.SendAsync(again);

        response.StatusCode.Should().Be(HttpStatusCode.OK);
        response.Content.Headers.ContentType!.MediaType.Should().Be(type);
        response.Headers.GetValues("Content-Security-Policy").Single().Should().Contain("default-src 'none'").And.Contain("frame-ancestors 'none'").And.NotContain("unsafe").And.NotContain("*");
        response.Headers.GetValues("X-Content-Type-Options").Should().Equal("nosniff");
        unchanged.StatusCode.Should().Be(HttpStatusCode.NotModified);
    }

    [Fact]
    public async Task The_page_holds_neither_scripts_nor_styles_of_its_own_nor_an_address_elsewhere()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        string page = await shop.Client.GetStringAsync("/");

        page.Should().NotContain("<style").And.NotContain("style=").And.NotContain("<script>").And.NotContain("://").And.NotMatchRegex(" on[a-z]+=");
    }

    [Fact]
    public async Task Events_tell_what_was_and_then_each_second_what_is()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        using HttpResponseMessage order = await shop.OrderAsync(key: "one");
        using HttpResponseMessage repeat = await shop.OrderAsync(key: "one");
        await using Listener early = await Listener.JoinAsync(shop);

        Sample[] seen = await early.UntilAsync(samples => samples.Sum(sample => sample.Answers.GetValueOrDefault(201)) == 2 && samples.Sum(sample => sample.Delivered) == 1 && samples.Length >= 2);
        await using Listener late = await Listener.JoinAsync(shop);
        Sample[] history = await late.UntilAsync(samples => samples.Length >= seen.Length);

        early.Types[0].Should().Be("history");
        early.Types.Skip(1).Should().NotBeEmpty().And.OnlyContain(type => type == "samples");
        history[..seen.Length].Should().BeEquivalentTo(seen, "who comes late is told the same");
        seen.Sum(sample => sample.Replays).Should().Be(1);
        seen.Max(sample => sample.P99).Should().BePositive();
        seen.Max(sample => sample.Spent99).Should().BeInRange(0.0001, 1);
        seen.Should().OnlyContain(sample => sample.Seconds > 0.1 && sample.Circuit == "closed" && sample.RetriesLeft > 0 && sample.Retries == 0);
        seen[^1].Should().Match<Sample>(sample => sample.Payments!.Mode == FaultMode.Healthy && sample.CustomerBroken == false && sample.Limit!.Most == 2000 && sample.Limit.Left <= 2000
            && sample.Pending == 0 && sample.DeadLetters == 0 && sample.Load == null);
    }

    [Fact]
    public async Task Events_tell_of_retries_and_of_each_change_of_the_circuit()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Listener listener = await Listener.JoinAsync(shop);
        await shop.TellPaymentsAsync("failing");
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.ServiceUnavailable, "the circuit opens");
        await shop.TellPaymentsAsync("healthy");
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.Created, "an order is paid");
        ShopState state = await shop.StateAsync();

        Sample[] seen = await listener.UntilAsync(samples => samples[^1].Circuit == "closed" && samples.Sum(sample => sample.Retries) >= state.Retries && samples.Any(sample => sample.Changes.Any(change => change.State == "closed")));

        CircuitChange[] changes = [.. seen.SelectMany(sample => sample.Changes)];
        changes.Select(change => change.State).Should().StartWith(["open", "half_open"]).And.EndWith(["half_open", "closed"]);
        changes.Select(change => change.At).Should().BeInAscendingOrder();
        state.Retries.Should().BePositive();
        seen.Sum(sample => sample.Rejected).Should().BeGreaterThanOrEqualTo(state.Answers[503], "a second attempt is rejected, too, when the first has opened the circuit");
    }

    [Fact]
    public async Task Events_tell_how_much_of_the_limit_is_left_and_who_was_refused()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--RateLimits:client:Limits:0:Permits=1", "--RateLimits:client:Limits:0:Period=01:00:00", "--RateLimits:client:Limits:0:Burst=3");
        await using Listener listener = await Listener.JoinAsync(shop);
        for (int i = 0; i < 5; i++)
        {
            using HttpResponseMessage order = await shop.OrderAsync();
        }

        Sample[] seen = await listener.UntilAsync(samples => samples.Sum(sample => sample.Refused) == 2);

        seen[^1].Limit.Should().Be(new LimitLevel(Left: 0, Most: 3));
        seen.Sum(sample => sample.Answers.GetValueOrDefault(429)).Should().Be(2);
    }

    [Fact]
    public async Task A_shop_without_the_toolkit_has_neither_circuit_nor_limit_to_show()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--plain=true");
        await using Listener listener = await Listener.JoinAsync(shop);
        using HttpResponseMessage order = await shop.OrderAsync();

        Sample[] seen = await listener.UntilAsync(samples => samples.Sum(sample => sample.Answers.GetValueOrDefault(201)) == 1);

        seen.Should().OnlyContain(sample => sample.Circuit == null && sample.RetriesLeft == null && sample.Limit == null);
    }

    [Fact]
    public async Task A_shop_tells_of_its_own_answers_and_not_of_those_of_another()
    {
        await using RunningShop one = await RunningShop.StartAsync(), other = await RunningShop.StartAsync();
        await using Listener listener = await Listener.JoinAsync(one), elsewhere = await Listener.JoinAsync(other);
        using HttpResponseMessage order = await one.OrderAsync();

        Sample[] seen = await listener.UntilAsync(samples => samples.Sum(sample => sample.Answers.GetValueOrDefault(201)) == 1);
        Sample[] unmoved = await elsewhere.UntilAsync(samples => samples[^1].At > seen[^1].At);

        unmoved.Should().OnlyContain(sample => sample.Answers.Count == 0 && sample.P50 == null);
    }

    [Fact]
    public async Task A_stream_outlives_the_budget_of_other_requests()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--RequestBudget:Maximum=00:00:01");
        await using Listener listener = await Listener.JoinAsync(shop);

        Sample[] seen = await listener.UntilAsync(samples => samples.Length >= 4);

        listener.Types.Should().HaveCountGreaterThanOrEqualTo(4, "four seconds are more than one");
        seen.Should().HaveCountGreaterThanOrEqualTo(4);
    }

    [Fact]
    public async Task So_many_may_listen_and_no_more_until_one_leaves()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        Listener[] listeners = await Task.WhenAll(Enumerable.Range(0, DashboardFeed.MostListeners).Select(_ => Listener.JoinAsync(shop)));

        using HttpResponseMessage refused = await shop.Client.GetAsync("events", HttpCompletionOption.ResponseHeadersRead);
        string problem = await refused.Content.ReadAsStringAsync();
        await listeners[0].DisposeAsync();

        refused.StatusCode.Should().Be(HttpStatusCode.ServiceUnavailable);
        refused.Headers.RetryAfter!.Delta.Should().Be(TimeSpan.FromSeconds(5));
        problem.Should().Contain($"At most {DashboardFeed.MostListeners} may listen");
        await RealTime.UntilAsync(
            async () =>
            {
                using HttpResponseMessage next = await shop.Client.GetAsync("events", HttpCompletionOption.ResponseHeadersRead);
                return next.IsSuccessStatusCode;
            },
            "there is a place again");
        foreach (Listener listener in listeners[1..])
        {
            await listener.DisposeAsync();
        }
    }

    [Fact]
    public async Task An_open_stream_ends_when_the_shop_stops_and_does_not_hold_it_up()
    {
        RunningShop shop = await RunningShop.StartAsync();
        using var client = new HttpClient { BaseAddress = shop.Client.BaseAddress };
        using HttpResponseMessage stream = await client.GetAsync("events", HttpCompletionOption.ResponseHeadersRead);

        TimeSpan elapsed = await RealTime.MeasureAsync(async () => await shop.DisposeAsync());
        string rest = await stream.Content.ReadAsStringAsync();

        elapsed.Should().BeLessThan(TimeSpan.FromSeconds(15), "a server waits 30 s for requests that do not end");
        rest.Should().StartWith("event: history").And.EndWith("\n\n", "it ends, and is not cut");
    }

    [Fact]
    public async Task Payments_and_the_customer_are_told_through_the_shop_and_their_refusals_come_back()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage slow = await shop.Client.PostAsJsonAsync("controls/payments", new { mode = "slow", ratio = 0.5, delayMs = 40 });
        using HttpResponseMessage bad = await shop.Client.PostAsJsonAsync("controls/payments", new { mode = "slow", ratio = 1.5 });
        using HttpResponseMessage broken = await shop.Client.PostAsJsonAsync("controls/customer", new { broken = true });
        using HttpResponseMessage unclear = await shop.Client.PostAsJsonAsync("controls/customer", new { });

        slow.StatusCode.Should().Be(HttpStatusCode.OK);
        bad.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        (await bad.Content.ReadAsStringAsync()).Should().Contain("ratio must be between 0 and 1, but is 1.5.");
        (await shop.Payments.GetStringAsync("faults")).Should().Be("""{"mode":"slow","ratio":0.5,"delayMs":40}""");
        broken.StatusCode.Should().Be(HttpStatusCode.OK);
        unclear.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        (await unclear.Content.ReadAsStringAsync()).Should().Contain("broken must be true or false, but is missing.");
        (await shop.ReceivedAsync()).IsBroken.Should().BeTrue();
    }

    [Fact]
    public async Task Payments_that_is_not_there_is_told_by_a_problem_and_shown_as_unknown()
    {
        await using ServiceProvider services = new ServiceCollection().AddHttpClient().BuildServiceProvider();
        IConfiguration configuration = new ConfigurationBuilder().AddInMemoryCollection([new("payments", "http://127.0.0.1:1"), new("payments-secret", WebhookKey.NewSecret())]).Build();
        var controls = new Controls(services.GetRequiredService<IHttpClientFactory>(), new Neighbours(configuration, services));

        IResult told = await controls.TellPaymentsAsync(new Fault(FaultMode.Slow), default);

        told.Should().BeOfType<ProblemHttpResult>().Which.Should().Match<ProblemHttpResult>(problem => problem.StatusCode == 502 && problem.ProblemDetails.Detail!.Contains("http://127.0.0.1:1"));
        (await controls.FaultAsync(default)).Should().BeNull();
    }

    [Fact]
    public async Task A_load_sends_so_many_orders_one_in_ten_twice_and_ends()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Listener listener = await Listener.JoinAsync(shop);

        using HttpResponseMessage started = await shop.Client.PostAsJsonAsync("controls/load", new Load(PerSecond: 40, Seconds: 1));
        Sample[] seen = await listener.UntilAsync(samples => samples[^1].Load is { IsRunning: false });

        started.StatusCode.Should().Be(HttpStatusCode.Accepted);
        seen[^1].Load.Should().Be(new LoadState(PerSecond: 40, Seconds: 1, Sent: 40, Answered: 40, IsRunning: false));
        (await shop.OrdersAsync()).Should().HaveCount(36).And.OnlyContain(order => order.Status == OrderStatus.Paid);
        seen = await listener.UntilAsync(samples => samples.Sum(sample => sample.Answers.GetValueOrDefault(201)) == 40);
        seen.Sum(sample => sample.Replays).Should().Be(4);
    }

    [Fact]
    public async Task One_load_runs_at_a_time_and_ends_when_it_is_told_to()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await using Listener listener = await Listener.JoinAsync(shop);

        using HttpResponseMessage early = await shop.Client.DeleteAsync("controls/load");
        using HttpResponseMessage first = await shop.Client.PostAsJsonAsync("controls/load", new Load(PerSecond: 10, Seconds: 60));
        using HttpResponseMessage second = await shop.Client.PostAsJsonAsync("controls/load", new Load(PerSecond: 1, Seconds: 1));
        await listener.UntilAsync(samples => samples[^1].Load is { Sent: > 0 });
        using HttpResponseMessage stopped = await shop.Client.DeleteAsync("controls/load");
        Sample[] seen = await listener.UntilAsync(samples => samples[^1].Load is { IsRunning: false });
        using HttpResponseMessage third = await shop.Client.PostAsJsonAsync("controls/load", new Load(PerSecond: 1, Seconds: 1));

        early.StatusCode.Should().Be(HttpStatusCode.Conflict);
        first.StatusCode.Should().Be(HttpStatusCode.Accepted);
        second.StatusCode.Should().Be(HttpStatusCode.Conflict);
        (await second.Content.ReadAsStringAsync()).Should().Contain("At most one load may run at a time.");
        stopped.StatusCode.Should().Be(HttpStatusCode.Accepted);
        seen[^1].Load.Should().Match<LoadState>(load => load.PerSecond == 10 && load.Sent < 600 && load.Answered == load.Sent);
        third.StatusCode.Should().Be(HttpStatusCode.Accepted);
    }

    [Fact]
    public async Task A_shop_stops_while_its_load_runs()
    {
        RunningShop shop = await RunningShop.StartAsync();
        await shop.TellPaymentsAsync("slow", delayMs: 200);
        (await shop.Client.PostAsJsonAsync("controls/load", new Load(PerSecond: 50, Seconds: 60))).EnsureSuccessStatusCode();
        await RealTime.UntilAsync(async () => (await shop.ChargesAsync()).Calls > 10, "it is busy");

        TimeSpan elapsed = await RealTime.MeasureAsync(async () => await shop.DisposeAsync());

        elapsed.Should().BeLessThan(TimeSpan.FromSeconds(20), "else it would go on for a minute");
    }

    [Theory]
    [InlineData("""{"perSecond":0,"seconds":1}""", "perSecond must be between 1 and 100, but is 0.")]
    [InlineData("""{"perSecond":101,"seconds":1}""", "perSecond must be between 1 and 100, but is 101.")]
    [InlineData("""{"perSecond":1,"seconds":0}""", "seconds must be between 1 and 60, but is 0.")]
    [InlineData("""{"perSecond":1,"seconds":61}""", "seconds must be between 1 and 60, but is 61.")]
    [InlineData("""{"perSecond":1}""", "seconds must be between 1 and 60, but is 0.")]
    [InlineData("""{"perSecond":1.5,"seconds":1}""", "Bad Request")]
    [InlineData("null", "Bad Request")]
    public async Task A_load_that_makes_no_sense_is_refused_by_its_rule_and_does_not_run(string body, string rule)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Client.PostAsync("controls/load", new StringContent(body, Encoding.UTF8, "application/json"));

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        (await response.Content.ReadAsStringAsync()).Should().Contain(rule);
        (await shop.Client.DeleteAsync("controls/load")).StatusCode.Should().Be(HttpStatusCode.Conflict);
    }

    [Theory]
    [InlineData("")]
    [InlineData("null")]
    [InlineData("{}")]
    [InlineData("""{"mode":null}""")]
    [InlineData("""{"mode":1}""")]
    [InlineData("""{"mode":"slow, failing"}""")]
    [InlineData("""{"mode":"failing","ratio":1.5}""")]
    public async Task What_payments_cannot_be_told_is_refused(string body)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Client.PostAsync("controls/payments", new StringContent(body, Encoding.UTF8, "application/json"));

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        (await shop.Payments.GetStringAsync("faults")).Should().Contain("healthy");
    }

    [Theory]
    [InlineData("tr-TR")]
    [InlineData("ar-SA")]
    public void Problems_read_the_same_wherever_the_shop_runs(string culture)
    {
        CultureInfo before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = CultureInfo.GetCultureInfo(culture);
        try
        {
            string[] problems = [.. new[] { new Fault(FaultMode.Slow, -1.5, -5).Problems(), new Load(-1, -2).Problems(), new NewOrder("", -3).Problems() }.SelectMany(one => one.Values).SelectMany(one => one)];

            problems.Should().Contain(["ratio must be between 0 and 1, but is -1.5.", "delayMs must be between 0 and 60000, but is -5.", "perSecond must be between 1 and 100, but is -1.", "cents must be between 1 and 1000000, but is -3."]);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Theory]
    [InlineData("Sec-Fetch-Site", "cross-site")]
    [InlineData("Sec-Fetch-Site", "same-site")]
    [InlineData("Sec-Fetch-Site", "Same-Origin, cross-site")]
    [InlineData("Origin", Evil)]
    [InlineData("Origin", "null")]
    [InlineData("Origin", "http://127.0.0.1:1")]
    public async Task The_page_of_another_origin_works_no_control(string header, string value)
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        (await shop.Client.PostAsJsonAsync("controls/load", new Load(PerSecond: 1, Seconds: 60))).EnsureSuccessStatusCode();

        HttpStatusCode[] statuses =
        [
            await SendAsync(shop, HttpMethod.Post, "controls/payments", new { mode = "failing" }, (header, value)),
            await SendAsync(shop, HttpMethod.Post, "controls/customer", new { broken = true }, (header, value)),
            await SendAsync(shop, HttpMethod.Delete, "controls/load", null, (header, value)),
            await SendAsync(shop, HttpMethod.Post, "controls/load", new Load(1, 1), (header, value)),
            await SendAsync(shop, HttpMethod.Post, new Uri(shop.Payments.BaseAddress!, "faults").ToString(), new { mode = "failing" }, (header, value)),
            await SendAsync(shop, HttpMethod.Post, new Uri(shop.Customer.BaseAddress!, "broken?value=true").ToString(), null, (header, value)),
        ];

        statuses.Should().OnlyContain(status => status == HttpStatusCode.Forbidden);
        (await shop.Payments.GetStringAsync("faults")).Should().Contain("healthy");
        (await shop.ReceivedAsync()).IsBroken.Should().BeFalse();
        (await shop.Client.DeleteAsync("controls/load")).StatusCode.Should().Be(HttpStatusCode.Accepted, "it still runs");
    }

    [Fact]
    public async Task A_name_that_leads_here_by_a_trick_is_not_from_here()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        (string, string)[] trick = [("Host", new Uri(Evil).Authority), ("Origin", Evil), ("Sec-Fetch-Site", "same-origin")];

        HttpStatusCode payments = await SendAsync(shop, HttpMethod.Post, new Uri(shop.Payments.BaseAddress!, "faults").ToString(), new { mode = "failing" }, trick);
        HttpStatusCode customer = await SendAsync(shop, HttpMethod.Post, new Uri(shop.Customer.BaseAddress!, "broken?value=true").ToString(), null, trick);

        new[] { payments, customer }.Should().OnlyContain(status => status == HttpStatusCode.Forbidden);
    }

    [Fact]
    public async Task The_own_page_and_programs_that_are_no_browser_work_the_controls()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        string own = shop.Client.BaseAddress!.GetLeftPart(UriPartial.Authority);

        HttpStatusCode page = await SendAsync(shop, HttpMethod.Post, "controls/payments", new { mode = "healthy" }, ("Sec-Fetch-Site", "same-origin"), ("Origin", own));
        HttpStatusCode older = await SendAsync(shop, HttpMethod.Post, "controls/payments", new { mode = "healthy" }, ("Origin", own));
        HttpStatusCode curl = await SendAsync(shop, HttpMethod.Post, "controls/payments", new { mode = "healthy" });

        new[] { page, older, curl }.Should().OnlyContain(status => status == HttpStatusCode.OK);
    }

    [Theory]
    [InlineData("controls/payments", """{"mode":"failing"}""")]
    [InlineData("controls/customer", """{"broken":true}""")]
    [InlineData("controls/load", """{"perSecond":1,"seconds":1}""")]
    public async Task What_a_form_of_another_site_could_send_is_no_json_and_does_nothing(string path, string body)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Client.PostAsync(path, new StringContent(body, Encoding.UTF8, "text/plain"));

        response.StatusCode.Should().Be(HttpStatusCode.UnsupportedMediaType);
        (await shop.Payments.GetStringAsync("faults")).Should().Contain("healthy");
        (await shop.ReceivedAsync()).IsBroken.Should().BeFalse();
        (await shop.Client.DeleteAsync("controls/load")).StatusCode.Should().Be(HttpStatusCode.Conflict);
    }

    [Fact]
    public async Task A_name_that_only_leads_here_is_not_served()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        using var request = new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { Host = "evil.example" } };

        using HttpResponseMessage response = await shop.Client.SendAsync(request);

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    [Fact]
    public void Quantiles_are_exact_for_few_values_and_fair_for_many()
    {
        var none = new Quantiles();
        var few = new Quantiles();
        var many = new Quantiles();
        for (int i = 100; i >= 1; i--)
        {
            few.Add(i);
        }

        for (int i = 0; i < 200_000; i++)
        {
            many.Add(i);
        }

        none.At(0.5).Should().BeNull();
        (few.At(0.5), few.At(0.99), few.At(1)).Should().Be((50, 99, 100));
        many.At(0.5).Should().BeInRange(80_000, 120_000);
    }

    private static async Task<HttpStatusCode> SendAsync(RunningShop shop, HttpMethod method, string path, object? body, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : JsonContent.Create(body) };
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value).Should().BeTrue();
        }

        using HttpResponseMessage response = await shop.Client.SendAsync(request);
        return response.StatusCode;
    }

    /// <summary>Hears the events of a shop.</summary>
    private sealed class Listener : IAsyncDisposable
    {
        private readonly HttpResponseMessage _response;
        private readonly IAsyncEnumerator<SseItem<Sample[]>> _events;
        private readonly List<Sample> _samples = [];

        private Listener(HttpResponseMessage response, Stream stream)
        {
            _response = response;
            _events = SseParser.Create(stream, static (_, data) => JsonSerializer.Deserialize<Sample[]>(data, Json)!).EnumerateAsync().GetAsyncEnumerator();
        }

        public List<string> Types { get; } = [];

        public static async Task<Listener> JoinAsync(RunningShop shop)
        {
            HttpResponseMessage response = (await shop.Client.GetAsync("events", HttpCompletionOption.ResponseHeadersRead)).EnsureSuccessStatusCode();
            response.Content.Headers.ContentType!.MediaType.Should().Be("text/event-stream");
            return new Listener(response, await response.Content.ReadAsStreamAsync());
        }

        /// <returns>All samples so far, once there are some and they are as wanted.</returns>
        public async Task<Sample[]> UntilAsync(Func<Sample[], bool> isEnough)
        {
            await RealTime.MeasureAsync(async () =>
            {
                while (_samples.Count == 0 || !isEnough([.. _samples]))
                {
                    (await _events.MoveNextAsync()).Should().BeTrue("the stream goes on");
                    Types.Add(_events.Current.EventType);
                    _samples.AddRange(_events.Current.Data);
                }
            });
            return [.. _samples];
        }

        public async ValueTask DisposeAsync()
        {
            _response.Dispose();
            await _events.DisposeAsync();
        }
    }
}
