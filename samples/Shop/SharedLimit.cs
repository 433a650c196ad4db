using System.Globalization;
using System.Net;
using StackExchange.Redis;

namespace Shop;

/// <summary>One client asks two shops at once: together they hold its limit when they share it on Redis; without that each allows it all.</summary>
internal static class SharedLimit
{
    public const int Limit = 100;

    private const int Requests = 400;
    private const int AtATime = 16;

    /// <summary>Fails unless a Redis answers there. The text may hold a password: it is not told.</summary>
    public static async Task CheckAsync(string redis, CancellationToken stopping)
    {
        if (!await AnswersAsync(redis, stopping))
        {
            throw new ArgumentException("--redis must name a Redis that answers, such as localhost:6379, but none does there. Start one, or leave --redis away: then this incident is not played.");
        }
    }

    /// <returns>Null: not played, Redis does not answer. What the shops admit then says nothing of a shared limit.</returns>
    public static async Task<Incident?> PlayAsync(Progress progress, string redis, CancellationToken stopping)
    {
        progress.Step("with the toolkit: one limit, two shops");
        if (!await AnswersAsync(redis, stopping))
        {
            return null;
        }

        int with = await AdmittedAsync(redis, stopping);
        if (!await AnswersAsync(redis, stopping))
        {
            return null;
        }

        progress.Step("without the toolkit: one limit, two shops");
        int without = await AdmittedAsync(redis: null, stopping);
        progress.Say(string.Create(CultureInfo.InvariantCulture, $"""
            A client may ask {Limit} times at once, and once more per second. It asks two shops {Requests} times:
            with a limiter on Redis they admit {with}, without (a limiter in each) {without}.

            """));
        return new Incident("one limit, two shops", string.Create(CultureInfo.InvariantCulture, $"admitted of {Requests}; the limit is {Limit}"), $"{with}", $"{without}");
    }

    /// <param name="redis">Null: each for itself.</param>
    /// <param name="stopping">Ends it.</param>
    /// <returns>How many of the requests two shops admitted together.</returns>
    public static async Task<int> AdmittedAsync(string? redis, CancellationToken stopping)
    {
        // Nobody else's keys; they expire by themselves. A Redis that is slow is waited for: what each shop does without it is not what is shown here. As one of two nodes each would then allow half: with --nodes=1 it is seen.
        string[] shared = redis is null ? [] : [$"--redis={redis}", $"--RateLimits:client:KeyPrefix=shop-tour:{Guid.NewGuid():N}:", "--RateLimits:client:StoreTimeout=00:00:05", "--nodes=1"];
        string[] settings = [.. shared, "--RateLimits:client:Limits:0:Permits=1", $"--RateLimits:client:Limits:0:Burst={Limit}"];
        await using TourShop first = await TourShop.StartAsync(toolkit: true, settings, stopping), second = await TourShop.StartAsync(toolkit: true, settings, stopping);
        int asked = 0, admitted = 0;
        await Task.WhenAll(Enumerable.Range(0, AtATime).Select(_ => AskAsync()));
        return admitted;

        async Task AskAsync()
        {
            for (int request = Interlocked.Increment(ref asked); request <= Requests; request = Interlocked.Increment(ref asked))
            {
                using HttpResponseMessage response = await (request % 2 == 0 ? first : second).Users.GetAsync("orders", stopping);
                if (response.StatusCode != HttpStatusCode.TooManyRequests)
                {
                    response.EnsureSuccessStatusCode();
                    Interlocked.Increment(ref admitted);
                }
            }
        }
    }

    private static async Task<bool> AnswersAsync(string redis, CancellationToken stopping)
    {
        try
        {
            var options = ConfigurationOptions.Parse(redis);
            (options.AbortOnConnectFail, options.ConnectTimeout, options.ConnectRetry) = (true, 2000, 1);
            await using ConnectionMultiplexer connection = await ConnectionMultiplexer.ConnectAsync(options).WaitAsync(stopping);
            await connection.GetDatabase().PingAsync().WaitAsync(stopping);
            return true;
        }
        catch (Exception failed) when (failed is RedisException or ArgumentException or TimeoutException)
        {
            return false;
        }
    }
}
