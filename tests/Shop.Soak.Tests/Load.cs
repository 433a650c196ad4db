using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using Shop.Tests;

namespace Shop.Soak.Tests;

/// <summary>
/// Clients who order, each under a key of its own, which is what it orders, too; as many a second as they are told, whether the shop answers or not. Nine of ten send the same key until they have a final answer. The tenth
/// hangs up early and never asks again. One of twenty orders what is too expensive. Who was promised an order is written to a file, so that nothing grows here.
/// </summary>
internal sealed class Load : IDisposable
{
    /// <summary>Beyond, nobody orders: a machine that cannot keep up is not what is asked.</summary>
    private const int MostAtOnce = 40;

    private readonly HttpClient _client;
    private readonly Uri _orders;
    private readonly Random _random;
    private readonly StreamWriter _promises;
    private readonly ConcurrentDictionary<string, int> _counts = new();
    private int _underWay;
    private int _number;

    public Load(Uri shop, Random random, string promises)
    {
        _client = new HttpClient(new SocketsHttpHandler { ConnectTimeout = TimeSpan.FromSeconds(5) }) { Timeout = TimeSpan.FromSeconds(20) };
        _orders = new Uri(shop, "orders");
        _random = random;
        _promises = new StreamWriter(promises) { AutoFlush = true };
    }

    public int Accepted => _counts.GetValueOrDefault("accepted");

    public int UnderWay => Volatile.Read(ref _underWay);

    /// <summary>Orders that went well, that were declined, and so on; then answers that were not final.</summary>
    public override string ToString() => string.Join(", ", _counts.OrderBy(count => count.Key, StringComparer.Ordinal).Select(count => $"{count.Key} {count.Value}"));

    /// <summary>Begins so many orders a second until it is cancelled.</summary>
    public async Task OfferAsync(double perSecond, CancellationToken end)
    {
        long begun = TimeProvider.System.GetTimestamp();
        for (int i = 0; !end.IsCancellationRequested; i++)
        {
            TimeSpan early = TimeSpan.FromSeconds(i / perSecond) - TimeProvider.System.GetElapsedTime(begun);
            if (early > TimeSpan.Zero)
            {
                await RealTime.PassAsync(early, end);
            }

            if (UnderWay < MostAtOnce)
            {
                Interlocked.Increment(ref _underWay);
                _ = Task.Run(OrderAsync, CancellationToken.None);
            }
            else
            {
                Count("not sent");
            }
        }
    }

    /// <summary>Until every client has its answer.</summary>
    public async Task SettleAsync(TimeSpan patience)
    {
        try
        {
            await RealTime.UntilAsync(() => Task.FromResult(UnderWay == 0), "every client has an answer", patience);
        }
        catch (TimeoutException late)
        {
            throw new TimeoutException($"{late.Message} {UnderWay} have none: {this}.");
        }
    }

    public void Dispose()
    {
        _client.Dispose();
        _promises.Dispose();
    }

    private async Task OrderAsync()
    {
        try
        {
            int number = Interlocked.Increment(ref _number);
            string key = string.Create(CultureInfo.InvariantCulture, $"order-{number}");
            int cents = number % 20 == 7 ? 200_000 : 100 + number % 1000;
            bool leaves = number % 10 == 3;
            using var patience = new CancellationTokenSource(leaves ? TimeSpan.FromMilliseconds(Draw(600)) : TimeSpan.FromMinutes(30), TimeProvider.System);
            while (!await IsAnsweredAsync(key, cents, patience.Token))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(200 + Draw(600)), TimeProvider.System, patience.Token);
            }
        }
        catch (OperationCanceledException)
        {
            Count("left");
        }
        catch (Exception exception)
        {
            Count(exception.ToString());
        }
        finally
        {
            Interlocked.Decrement(ref _underWay);
        }
    }

    private async Task<bool> IsAnsweredAsync(string key, int cents, CancellationToken leaves)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, _orders) { Content = JsonContent.Create(new { item = key, cents }) };
        request.Headers.Add("Idempotency-Key", $"\"{key}\"");
        try
        {
            using HttpResponseMessage response = await _client.SendAsync(request, leaves);
            string location = response.Headers.Location?.OriginalString ?? "";
            switch (response.StatusCode)
            {
                case HttpStatusCode.Created:
                    Promise($"{key} {location[(location.LastIndexOf('/') + 1)..]}");
                    Count("accepted");
                    break;
                case HttpStatusCode.PaymentRequired:
                    Count("declined");
                    break;
                case HttpStatusCode.Conflict or HttpStatusCode.TooManyRequests or >= HttpStatusCode.InternalServerError:
                    Count($"told {(int)response.StatusCode}");
                    return false;
                default:
                    Count($"refused {(int)response.StatusCode}");
                    break;
            }

            if (response.Headers.Contains("Idempotent-Replayed"))
            {
                Count("replayed");
            }

            return true;
        }
        catch (HttpRequestException exception)
        {
            Count($"no answer: {exception.HttpRequestError}");
            return false;
        }
        catch (OperationCanceledException) when (!leaves.IsCancellationRequested)
        {
            Count("timed out");
            return false;
        }
    }

    private int Draw(int below)
    {
        lock (_random)
        {
            return _random.Next(below);
        }
    }

    private void Promise(string line)
    {
        lock (_promises)
        {
            _promises.WriteLine(line);
        }
    }

    private void Count(string what) => _counts.AddOrUpdate(what, 1, static (_, count) => count + 1);
}
