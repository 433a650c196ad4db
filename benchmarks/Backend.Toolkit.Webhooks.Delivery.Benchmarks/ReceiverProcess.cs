using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Globalization;
using Backend.Toolkit.Webhooks;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

/// <summary>
/// A receiver that verifies each request, in a process of its own. A payload begins with the sender's timestamp, which on one machine is of the same clock. <c>GET /</c> tells and forgets: how many were valid, how many not, the first
/// and the last arrival, the median and the 99th percentile of the delays in ms.
/// </summary>
internal static class ReceiverProcess
{
    public const string Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    public static async Task<int> RunAsync(string[] args)
    {
        _ = args;
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        await using WebApplication app = builder.Build();
        var verifier = new WebhookVerifier(new WebhookVerifierOptions { Name = "receiver", Keys = { new WebhookKey(Secret) } });
        var delays = new ConcurrentBag<double>();
        int invalid = 0;
        long first = long.MaxValue;
        long last = 0;
        app.MapPost("/{endpoint}", async (HttpRequest request) =>
        {
            byte[] body = new byte[(int)request.ContentLength!.Value];
            await request.Body.ReadExactlyAsync(body);
            if (verifier.Verify(request.Headers, static (headers, name) => headers[name], body) != WebhookVerification.Valid)
            {
                Interlocked.Increment(ref invalid);
                return Results.StatusCode(401);
            }

            long now = TimeProvider.System.GetTimestamp();
            delays.Add(TimeProvider.System.GetElapsedTime(BinaryPrimitives.ReadInt64LittleEndian(body), now).TotalMilliseconds);
            InterlockedMin(ref first, now);
            InterlockedMax(ref last, now);
            return Results.Ok();
        });
        app.MapGet("/count", () => delays.Count.ToString(CultureInfo.InvariantCulture));
        app.MapGet("/", () =>
        {
            double[] sorted = [.. delays.Order()];
            string told = sorted.Length == 0 ? "0" : string.Create(CultureInfo.InvariantCulture, $"{sorted.Length} {invalid} {TimeProvider.System.GetElapsedTime(first, last).TotalSeconds} {sorted[sorted.Length / 2]} {sorted[sorted.Length * 99 / 100]}");
            delays.Clear();
            (invalid, first, last) = (0, long.MaxValue, 0);
            return told;
        });
        await app.StartAsync();
        Console.WriteLine(app.Urls.First());
        await Task.Delay(Timeout.InfiniteTimeSpan);
        return 0;
    }

    private static void InterlockedMin(ref long place, long value)
    {
        for (long seen = Volatile.Read(ref place); value < seen && Interlocked.CompareExchange(ref place, value, seen) != seen; seen = Volatile.Read(ref place))
        {
        }
    }

    private static void InterlockedMax(ref long place, long value)
    {
        for (long seen = Volatile.Read(ref place); value > seen && Interlocked.CompareExchange(ref place, value, seen) != seen; seen = Volatile.Read(ref place))
        {
        }
    }
}
