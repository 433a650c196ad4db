using System.Collections.Concurrent;
using System.Diagnostics.Metrics;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>What is counted, and files that are left behind.</summary>
[Collection("The meter")]
public sealed class TelemetryTests
{
    [Fact]
    public async Task How_requests_ended_is_counted()
    {
        var seen = new ConcurrentQueue<string>();
        using var listener = new MeterListener();
        listener.InstrumentPublished = static (instrument, self) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.Webhooks.AspNetCore")
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            seen.Enqueue($"{instrument.Name} {value} {string.Join(' ', tags.ToArray().Select(tag => tag.Value))}");
            throw new InvalidOperationException("bug of a listener");
        });
        listener.Start();
        int runs = 0;
        await using Server server = await Server.StartAsync(
            app =>
            {
                app.MapPost("/", () => ++runs == 1 ? Results.StatusCode(500) : Results.Ok()).VerifyWebhook("orders");
                app.MapPost("/open", () => "ran").VerifyWebhook("orders", guardReplays: false);
                app.MapPost("/event", () => "ran").VerifyWebhook("orders", eventId: static _ => throw new FormatException("no id"));
            },
            setup => setup.Receiving = o => o.MaxBodyBytes = 10);

        await server.AskAsync(server.Request("/", [], []));
        await server.SendAsync("/");
        await server.SendAsync("/");
        await server.SendAsync("/");
        await server.SendAsync("/", "eleven bytes");
        await server.SendAsync("/open");
        await server.SendAsync("/event");

        seen.Should().Equal(
            ((string[])["unauthorized", "failed", "handled", "duplicate", "too_large", "unguarded", "failed"]).Select(result => $"backend.toolkit.webhooks.requests 1 orders {result}"));
    }

    [Fact]
    public async Task Temporary_files_are_for_nobody_else_and_gone_afterwards_and_a_folder_that_is_missing_means_503()
    {
        string folder = Directory.CreateTempSubdirectory("webhooks-").FullName;
        string? before = Environment.GetEnvironmentVariable("ASPNETCORE_TEMP");
        var during = new ConcurrentQueue<string>();
        try
        {
            Environment.SetEnvironmentVariable("ASPNETCORE_TEMP", folder);
            await using Server server = await Server.StartAsync(app => app.MapPost("/", () =>
            {
                foreach (string file in Directory.GetFiles(folder))
                {
                    during.Enqueue(OperatingSystem.IsWindows() ? "mine" : File.GetUnixFileMode(file) == (UnixFileMode.UserRead | UnixFileMode.UserWrite) ? "mine" : "everybody's");
                }
            }).VerifyWebhook("orders"));
            byte[] body = new byte[100_000];

            Answer kept = await server.AskAsync(server.Request("/", body, server.Sign(body)));
            Answer refused = await server.AskAsync(server.Request("/", body, server.Sign(body, id: "msg_2", timestamp: server.Time.GetUtcNow().AddSeconds(1)).ToDictionary(header => header.Key, header => header.Key == "webhook-id" ? "msg_3" : header.Value)));
            Eventually.BeTrue(() => Directory.GetFiles(folder).Length == 0, "the files are closed with their requests");
            Directory.Delete(folder);
            Answer without = await server.AskAsync(server.Request("/", body, server.Sign(body, id: "msg_4")));

            (kept.Status, refused.Status, without.Status, without.RetryAfter).Should().Be((200, 401, 503, 5));
            during.Should().Equal("mine");
            server.Held.Should().Be(0);
            server.Said.Should().ContainSingle().Which.Should().StartWith("Error: Webhook 'orders': a body could not be written to a temporary file");
        }
        finally
        {
            Environment.SetEnvironmentVariable("ASPNETCORE_TEMP", before);
        }
    }
}
