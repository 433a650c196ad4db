using System.Diagnostics;
using System.Net;
using System.Net.ServerSentEvents;
using Backend.Toolkit.Idempotency;
using Backend.Toolkit.Idempotency.PostgreSql;
using Backend.Toolkit.Tests;
using Microsoft.Extensions.DependencyInjection;

namespace Shop.Tests;

/// <summary>What <c>--otlp</c> sends, as a collector gets it.</summary>
public sealed class OtlpTests(PostgreSqlServer postgreSql)
{
    [Fact]
    public async Task One_trace_shows_the_budget_the_attempts_the_circuit_and_the_deliveries_of_an_order()
    {
        await using Collector collector = await Collector.StartAsync();
        await using RunningShop shop = await StartAsync(
            collector, "--OutboundPolicies:payments:Budget:Total=00:00:20", "--RequestBudget:Maximum=00:00:30",
            "--OutboundPolicies:payments:Retry:BaseDelay=00:00:01", "--OutboundPolicies:payments:Retry:MaxDelay=00:00:01", "--OutboundPolicies:payments:Retry:Jitter=None");
        await shop.TellPaymentsAsync("failing");
        shop.Client.DefaultRequestHeaders.Add("Timeout-Budget", "25000");
        Task<HttpResponseMessage> ordering = shop.OrderAsync();
        await RealTime.UntilAsync(async () => (await shop.ChargesAsync()).Calls == 1, "the first attempt is made");
        await shop.TellPaymentsAsync("healthy");

        using HttpResponseMessage response = await ordering;
        await RealTime.UntilAsync(() => Task.FromResult(collector.Spans.Any(IsOrder)), "the order is told of");
        CollectedSpan order = collector.Spans.Single(IsOrder);
        await RealTime.UntilAsync(() => Task.FromResult(collector.Spans.Count(span => span.Trace == order.Trace && span.Name == "webhook attempt") >= 2), "both deliveries are told of");

        response.StatusCode.Should().Be(HttpStatusCode.Created);
        CollectedSpan[] trace = [.. collector.Spans.Where(span => span.Trace == order.Trace)];
        (order["backend.toolkit.timeout_budget.given_ms"], order["backend.toolkit.timeout_budget.outcome"]).Should().Be(("25000", "passed"));
        Milliseconds(order, "backend.toolkit.timeout_budget.total_ms").Should().Be(25000);
        Milliseconds(order, "backend.toolkit.timeout_budget.left_ms").Should().BeInRange(1, 24000, "a second went by between the attempts");

        CollectedSpan[] attempts = [.. trace.Where(span => span is { Source: "Backend.Toolkit.Http", Name: "http attempt" }).OrderBy(span => span["backend.toolkit.http.attempt"])];
        attempts.Should().OnlyContain(attempt => attempt.Parent == order.Id && attempt["backend.toolkit.http.name"] == "payments");
        attempts.Select(attempt => $"{attempt["backend.toolkit.http.attempt"]} {attempt["backend.toolkit.http.circuit"]} {attempt["backend.toolkit.http.outcome"]} {attempt["http.response.status_code"]}")
            .Should().Equal("1 closed failed 500", "2 closed answered 200");
        Milliseconds(attempts[0], "backend.toolkit.http.left_ms").Should().BeInRange(19000, 20000);
        Milliseconds(attempts[1], "backend.toolkit.http.left_ms").Should().BeLessThan(Milliseconds(attempts[0], "backend.toolkit.http.left_ms") - 900);

        CollectedSpan[] charges = [.. attempts.Select(attempt => trace.Single(span => span.Parent == attempt.Id)).Select(client => trace.Single(span => span.Parent == client.Id))];
        charges.Should().OnlyContain(charge => charge.Source == "Microsoft.AspNetCore" && charge.Name == "POST /charges");

        CollectedSpan[] deliveries = [.. trace.Where(span => span is { Source: "Backend.Toolkit.Webhooks.Delivery", Name: "webhook attempt" })];
        deliveries.Select(delivery => delivery.Parent).Should().BeEquivalentTo([order.Id, charges[1].Id], "the shop tells its customer, and payments the shop");
        deliveries.Should().OnlyContain(delivery => delivery["http.response.status_code"] == "200");
    }

    [Fact]
    public async Task With_the_settings_that_are_there_a_trace_reads_as_in_the_README()
    {
        await using Collector collector = await Collector.StartAsync();
        await using RunningShop shop = await StartAsync(collector);
        await shop.TellPaymentsAsync("failing", ratio: 0.5);
        CollectedSpan? second = null;
        await RealTime.UntilAsync(
            async () =>
            {
                (await shop.OrderAsync()).Dispose();
                second = collector.Spans.FirstOrDefault(span => span.Name == "http attempt" && span["backend.toolkit.http.attempt"] == "2" && collector.Spans.Any(order => order.Id == span.Parent));
                return second is not null;
            },
            "a second attempt is told of");

        CollectedSpan order = collector.Spans.Single(span => span.Id == second!.Parent);
        CollectedSpan first = collector.Spans.Single(span => span.Parent == order.Id && span["backend.toolkit.http.attempt"] == "1");
        order["backend.toolkit.timeout_budget.given_ms"].Should().BeNull("the caller gave none");
        order["backend.toolkit.timeout_budget.total_ms"].Should().Be("2500");
        Milliseconds(first, "backend.toolkit.http.left_ms").Should().BeInRange(1900, 2000);
        Milliseconds(second!, "backend.toolkit.http.delay_ms").Should().BeInRange(0, 1000, "it is 50 ms at most, and the machine may be busy");
    }

    [Fact]
    public async Task A_trace_shows_that_the_circuit_refused_and_that_nothing_was_sent()
    {
        await using Collector collector = await Collector.StartAsync();
        await using RunningShop shop = await StartAsync(collector, "--OutboundPolicies:payments:CircuitBreaker:BreakDuration=00:10:00", "--OutboundPolicies:payments:CircuitBreaker:MaxBreakDuration=00:10:00");
        await shop.TellPaymentsAsync("failing");
        await RealTime.UntilAsync(async () => (await shop.OrderAsync()).StatusCode == HttpStatusCode.ServiceUnavailable, "the circuit opens");

        await RealTime.UntilAsync(() => Task.FromResult(collector.Spans.Any(span => IsOrder(span) && span["http.response.status_code"] == "503")), "the refusal is told of");

        CollectedSpan order = collector.Spans.First(span => IsOrder(span) && span["http.response.status_code"] == "503");
        CollectedSpan[] attempts = [.. collector.Spans.Where(span => span.Parent == order.Id)];
        attempts.Select(attempt => $"{attempt["backend.toolkit.http.circuit"]} {attempt["backend.toolkit.http.outcome"]}").Should().Contain("open circuit-open");
        CollectedSpan refused = attempts.Single(attempt => attempt["backend.toolkit.http.outcome"] == "circuit-open");
        collector.Spans.Should().NotContain(span => span.Parent == refused.Id);
    }

    [Fact]
    public async Task What_the_dashboard_asks_each_second_is_no_trace()
    {
        await using Collector collector = await Collector.StartAsync();
        await using RunningShop shop = await StartAsync(collector);
        DashboardFeed feed = shop.Services.GetRequiredService<DashboardFeed>();
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(1), TimeProvider.System);
        int asked = 0;
        await foreach (SseItem<Sample[]> item in feed.ReadAsync(limit.Token))
        {
            asked += item.Data.Count(sample => sample is { Payments: not null, CustomerBroken: not null });
            if (asked >= 3)
            {
                break;
            }
        }

        await shop.TellPaymentsAsync("healthy");
        using HttpResponseMessage order = await shop.OrderAsync();
        await RealTime.UntilAsync(() => Task.FromResult(collector.Spans.Any(IsOrder)), "the order, which came later, is told of");

        collector.Spans.Should().NotContain(span => span.Tags.Any(tag => tag.Value.EndsWith("/broken", StringComparison.Ordinal)) || span.Name == "GET /faults");
        collector.Spans.Should().Contain(span => span.Name == "POST /faults", "whoever tells payments is somebody");
    }

    [Fact]
    public async Task Every_package_in_use_that_has_a_meter_delivers_under_its_own_name()
    {
        await using Collector collector = await Collector.StartAsync();
        await using RedisServer redis = await RedisServer.StartAsync();
        await using RunningShop shop = await StartAsync(collector, $"--redis={redis.ConnectionString}", $"--postgres={await postgreSql.NewDatabaseAsync()}");
        await using RunningShop alone = await StartAsync(collector); // its limits are its own
        using HttpResponseMessage counted = await alone.Client.GetAsync("orders");
        using HttpResponseMessage paid = await shop.OrderAsync();
        using HttpResponseMessage foreign = await shop.Client.GetAsync("orders?cursor=made-up");
        using var hurry = new HttpRequestMessage(HttpMethod.Get, "orders") { Headers = { { "Timeout-Budget", "0" } } };
        using HttpResponseMessage late = await shop.Client.SendAsync(hurry);
        await shop.TellPaymentsAsync("hanging");
        using HttpResponseMessage unanswered = await shop.OrderAsync();
        await ((PostgreSqlIdempotencyStore)shop.Services.GetRequiredService<IIdempotencyStore>()).CleanUpAsync();

        string[] meters = [.. typeof(ShopApplication).Assembly.GetReferencedAssemblies().Where(assembly => assembly.Name!.StartsWith("Backend.Toolkit.", StringComparison.Ordinal))
            .Select(System.Reflection.Assembly.Load).Where(assembly => assembly.GetType($"{assembly.GetName().Name}.Telemetry") is not null).Select(assembly => assembly.GetName().Name!)];

        meters.Should().HaveCountGreaterThanOrEqualTo(10);
        await RealTime.UntilAsync(() => Task.FromResult(!meters.Except(collector.Meters.Keys).Any()), $"each of {string.Join(", ", meters)} has delivered");
        collector.Meters.Where(meter => meter.Key.StartsWith("Backend.Toolkit.", StringComparison.Ordinal)).SelectMany(meter => meter.Value.Keys).Should().OnlyContain(name => name.StartsWith("backend.toolkit."));
        collector.Meters.Should().ContainKey("Microsoft.AspNetCore.Hosting").And.ContainKey("System.Net.Http");
    }

    [Theory]
    [InlineData("--otlp=http://127.0.0.1:1")]
    [InlineData("--otlp=http://192.0.2.1:4317")]
    [InlineData("--otlp")]
    public async Task A_collector_that_cannot_be_reached_harms_nothing(string otlp)
    {
        RunningShop shop = await RunningShop.StartAsync(otlp, "--OutboundPolicies:payments:Budget:Total=00:00:20", "--RequestBudget:Maximum=00:00:30", "--OTEL_BSP_SCHEDULE_DELAY=50", "--OTEL_METRIC_EXPORT_INTERVAL=100");
        HttpResponseMessage[] answers = [await shop.OrderAsync(), await shop.OrderAsync(), await shop.OrderAsync()];

        TimeSpan stopping = await RealTime.MeasureAsync(() => shop.DisposeAsync().AsTask());

        answers.Should().OnlyContain(answer => answer.StatusCode == HttpStatusCode.Created);
        stopping.Should().BeLessThan(TimeSpan.FromSeconds(40), "what is left of metrics and of traces is tried to be sent for 5 s each, and the machine may be busy");
    }

    [Fact]
    public async Task A_shop_that_is_not_asked_to_has_no_exporter_and_makes_no_spans()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.OrderAsync();

        shop.Services.GetService<OpenTelemetry.Trace.TracerProvider>().Should().BeNull();
        shop.Services.GetService<OpenTelemetry.Metrics.MeterProvider>().Should().BeNull();
        new ActivitySource("Backend.Toolkit.Http").HasListeners().Should().BeFalse();
    }

    [Theory]
    [InlineData("localhost:4317")]
    [InlineData("ftp://127.0.0.1:4317")]
    [InlineData("4317")]
    public void An_address_that_is_none_stops_the_start_with_the_reason(string address)
    {
        Action build = () => ShopApplication.Build("--otlp", address);

        build.Should().Throw<ArgumentException>().WithMessage($"--otlp must be an http or https address*{address}.");
    }

    [Theory]
    [InlineData("--otlp", "--otlp=")]
    [InlineData("--otlp --urls http://127.0.0.1:0", "--otlp= --urls http://127.0.0.1:0")]
    [InlineData("--otlp http://127.0.0.1:4317 --plain true", "--otlp http://127.0.0.1:4317 --plain true")]
    [InlineData("--data folder --otlp=http://127.0.0.1:4317", "--data folder --otlp=http://127.0.0.1:4317")]
    public void The_argument_may_stand_alone_wherever_it_stands(string given, string read)
    {
        Otlp.Arguments(given.Split(' ')).Should().Equal(read.Split(' '));
    }

    private static Task<RunningShop> StartAsync(Collector collector, params string[] settings) => RunningShop.StartAsync(
        [$"--otlp={collector.Address}", "--OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "--OTEL_BSP_SCHEDULE_DELAY=100", "--OTEL_METRIC_EXPORT_INTERVAL=300", .. settings]);

    private static bool IsOrder(CollectedSpan span) => span is { Source: "Microsoft.AspNetCore", Name: "POST /orders" };

    private static double Milliseconds(CollectedSpan span, string tag) => double.Parse(span[tag]!, System.Globalization.CultureInfo.InvariantCulture);
}
