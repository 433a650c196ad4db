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
}
