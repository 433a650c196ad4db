using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.TimeoutBudgets.AspNetCore.Tests;

public sealed class TelemetryTests
{
    private readonly string _name = "telemetry-" + Guid.NewGuid();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Each_outcome_is_counted_once_and_a_listener_that_throws_changes_none(bool throws)
    {
        using var metrics = new Metrics(_name, throws);
        Server? server = null;
        server = await Server.StartAsync(
            app => app.MapGet("/{how}", async (HttpContext context, string how) =>
            {
                if (how == "started")
                {
                    await context.Response.StartAsync();
                }

                if (how != "quick")
                {
                    server!.Time.Advance(TimeSpan.FromMilliseconds(100));
                }

                await context.Response.WriteAsync("answer");
            }),
            services => services.AddTimeoutBudgets(o => (o.Name, o.ReadEnvoyTimeout) = (_name, true)));
        await using Server disposed = server;

        HttpStatusCode[] statuses =
        [
            (await server.GetAsync("/quick", "100")).StatusCode,
            (await server.GetAsync("/quick", "garbage")).StatusCode,
            (await server.GetAsync("/quick", "-1", "x-envoy-expected-rq-timeout-ms")).StatusCode,
            (await server.GetAsync("/quick", "1")).StatusCode,
            (await server.GetAsync("/slow", "100")).StatusCode,
        ];
        Func<Task> cut = async () => await (await server.GetAsync("/started", "100")).Content.ReadAsStringAsync();
        await cut.Should().ThrowAsync<HttpRequestException>();
        Eventually.BeTrue(() => server.Statuses.Count == 6, "the pipeline has been left");

        statuses.Should().Equal(HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.OK, HttpStatusCode.ServiceUnavailable, HttpStatusCode.GatewayTimeout);
        metrics.Counts.Should().BeEquivalentTo(new Dictionary<string, long>
        {
            ["invalid_header header=Timeout-Budget"] = 1,
            ["invalid_header header=x-envoy-expected-rq-timeout-ms"] = 1,
            ["rejected"] = 1,
            ["expired answer=504"] = 1,
            ["expired answer=aborted"] = 1,
        });
        server.Errors.Should().BeEmpty();
    }

    [Theory]
    [InlineData("/quick", "100", 200, "given_ms=100 outcome=passed total_ms=100 left_ms=70")]
    [InlineData("/quick", null, 200, "outcome=passed total_ms=1000 left_ms=970")]
    [InlineData("/slow", "100", 504, "given_ms=100 outcome=expired total_ms=100 left_ms=0")]
    [InlineData("/quick", "1", 503, "given_ms=1 outcome=rejected")]
    [InlineData("/endless", null, 200, "outcome=passed")]
    [InlineData("/failing", "100", 500, "given_ms=100 outcome=passed total_ms=100 left_ms=100")]
    public async Task The_servers_span_tells_what_time_was_given_and_what_was_left(string path, string? budget, int status, string tags)
    {
        var trace = ActivityTraceId.CreateRandom();
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = static source => source.Name == "Microsoft.AspNetCore",
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = span =>
            {
                if (span.TraceId == trace)
                {
                    ended.Enqueue(span);
                }
            },
        };
        ActivitySource.AddActivityListener(listener);
        Server? server = null;
        server = await Server.StartAsync(
            app =>
            {
                app.MapGet("/quick", () => server!.Time.Advance(TimeSpan.FromMilliseconds(30)));
                app.MapGet("/slow", () => server!.Time.Advance(TimeSpan.FromMilliseconds(100)));
                app.MapGet("/endless", () => "answer").WithTimeoutBudget(Timeout.InfiniteTimeSpan);
                app.MapGet("/failing", IResult () => throw new InvalidOperationException("bug"));
            },
            services => services.AddTimeoutBudgets(o => o.Maximum = TimeSpan.FromSeconds(1)));
        await using Server disposed = server;
        var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { { "traceparent", $"00-{trace}-b7ad6b7169203331-01" } } };

        using HttpResponseMessage response = await server.SendAsync(request, budget);

        Eventually.BeTrue(() => !ended.IsEmpty, "the span has ended");
        ((int)response.StatusCode).Should().Be(status);
        string.Join(' ', ended.Single().TagObjects.Where(tag => tag.Key.StartsWith("backend.toolkit.timeout_budget.", StringComparison.Ordinal)).Select(tag =>
            string.Create(CultureInfo.InvariantCulture, $"{tag.Key.Split('.')[^1]}={tag.Value}"))).Should().Be(tags);
    }

    [Fact]
    public async Task A_span_that_nobody_listens_to_gets_no_tags()
    {
        IReadOnlyList<KeyValuePair<string, object?>> tags = [];
        await using Server server = await Server.StartBareAsync(app =>
        {
            app.Use(async (context, next) =>
            {
                // As the server makes one for its log.
                using Activity own = new Activity("request").Start();
                await next(context);
                tags = [.. own.TagObjects];
                own.IsAllDataRequested.Should().BeTrue();
            });
            app.UseTimeoutBudgets();
            app.MapGet("/", () => Activity.Current!.SetTag("seen", true).OperationName);
        });

        using HttpResponseMessage response = await server.GetAsync("/", "100");

        (await response.Content.ReadAsStringAsync()).Should().Be("request");
        tags.Select(tag => tag.Key).Should().Equal("seen");
    }
}
