using System.Collections.Concurrent;

namespace Backend.Toolkit.Webhooks.Delivery.Tests;

/// <summary>
/// A hundred endpoints that drip bodies, send endless ones or huge headers, or never accept, beside twenty that are well. Small here; the numbers that are published are measured by the benchmarks.
/// </summary>
[Collection("Alone")]
public sealed class HostileEndpointTests(ITestOutputHelper output)
{
    private const int Healthy = 20;
    private const int Hostile = 100;
    private const int Events = 40;

    [Fact]
    public async Task A_hundred_hostile_endpoints_keep_twenty_that_are_well_neither_from_delivering_nor_waiting()
    {
        Run alone = await RunAsync(hostile: 0);
        Run beside = await RunAsync(Hostile);

        output.WriteLine($"alone: {alone}; beside {Hostile} hostile: {beside}");
        beside.Delivered.Should().Be(Healthy * Events);
        beside.Median.Should().BeLessThan(alone.Median + TimeSpan.FromSeconds(1));
        beside.Worst.Should().BeLessThan(TimeSpan.FromSeconds(15), "no healthy endpoint waits for the deadline of a hostile one");
    }

    private static async Task<Run> RunAsync(int hostile)
    {
        using var database = new SqliteDatabase();
        var store = Support.Store(database, TimeProvider.System);
        await store.PrepareAsync();
        WebhookDeliveryOptions options = Support.Options(o => o.AttemptTimeout = TimeSpan.FromSeconds(15));
        await using var worker = new WebhookDeliveryWorker(options, store);
        var endpoints = new WebhookEndpoints(options, store, worker: worker);
        var outbox = new WebhookOutbox(store, worker);
        var enqueued = new ConcurrentDictionary<string, long>();
        var delays = new ConcurrentBag<TimeSpan>();
        await using var well = new Loopback(async (request, stream, token) =>
        {
            delays.Add(TimeProvider.System.GetElapsedTime(enqueued[request.Headers["webhook-id"]]));
            await Loopback.WriteAsync(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", token);
        });
        await using var drip = new Loopback(async (_, stream, token) =>
        {
            await Loopback.WriteAsync(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", token);
            while (true)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(250), TimeProvider.System, token);
                await Loopback.WriteAsync(stream, "x", token);
            }
        });
        await using var endless = new Loopback(async (_, stream, token) =>
        {
            await Loopback.WriteAsync(stream, "HTTP/1.1 500 No\r\n\r\n", token);
            string chunk = new('x', 16_384);
            while (true)
            {
                await Loopback.WriteAsync(stream, chunk, token);
            }
        });
        await using var headers = new Loopback((_, stream, token) => Loopback.WriteAsync(stream, $"HTTP/1.1 200 OK\r\nX: {new string('x', 1_000_000)}\r\n\r\n", token));
        await using var silent = new Loopback((_, _, token) => Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, token));
        Loopback[] kinds = [drip, endless, headers, silent];
        for (int i = 0; i < hostile; i++)
        {
            await endpoints.CreateAsync("acme", kinds[i % kinds.Length].Url);
        }

        for (int i = 0; i < Healthy; i++)
        {
            await endpoints.CreateAsync("acme", well.Url);
        }

        await worker.StartAsync();
        for (int i = 0; i < Events; i++)
        {
            string id = $"msg_{hostile}_{i}";
            enqueued[id] = TimeProvider.System.GetTimestamp();
            await outbox.EnqueueAsync(new WebhookEvent("order.created", new byte[2048], "acme", id));
            await Task.Delay(TimeSpan.FromMilliseconds(40), TimeProvider.System, CancellationToken.None);
        }

        await Support.UntilAsync(() => Task.FromResult(delays.Count >= Healthy * Events), "all that are well have all", seconds: 60);
        await worker.StopAsync(new CancellationToken(canceled: true));
        TimeSpan[] sorted = [.. delays.Order()];
        return new Run(sorted.Length, sorted[sorted.Length / 2], sorted[^1]);
    }

    private sealed record Run(int Delivered, TimeSpan Median, TimeSpan Worst);
}
