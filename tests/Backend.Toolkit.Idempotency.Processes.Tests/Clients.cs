using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>Clients that ask until they are answered, of one node after the other, and remember everything.</summary>
internal sealed class Clients : IDisposable
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);

    private readonly HttpClient _http = new(new SocketsHttpHandler { PooledConnectionIdleTimeout = TimeSpan.FromSeconds(2) }) { Timeout = TimeSpan.FromSeconds(30) };
    private readonly ConcurrentQueue<Exchange> _history = new();
    private long _longestStall;

    public IReadOnlyCollection<Exchange> History => _history;

    /// <summary>How much later than asked for a pause has ended: what a busy machine adds to everything.</summary>
    public TimeSpan LongestStall => TimeSpan.FromTicks(Volatile.Read(ref _longestStall));

    public async Task<Exchange> SendAsync(Uri node, string key, string body)
    {
        long sent = TimeProvider.System.GetTimestamp();
        Exchange exchange;
        try
        {
            using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(node, $"pay/{key}")) { Content = new StringContent(body) };
            request.Headers.Add("Idempotency-Key", $"\"{key}\"");
            using HttpResponseMessage response = await _http.SendAsync(request);
            byte[] answer = await response.Content.ReadAsByteArrayAsync();
            exchange = new Exchange(key, body, sent, TimeProvider.System.GetTimestamp(), (int)response.StatusCode, Convert.ToHexString(SHA256.HashData(answer)), response.Headers.Contains("Idempotent-Replayed"));
        }
        catch (Exception exception) when (exception is HttpRequestException or IOException)
        {
            exchange = new Exchange(key, body, sent, TimeProvider.System.GetTimestamp(), 0);
        }

        _history.Enqueue(exchange);
        return exchange;
    }

    /// <summary>Asks until there is an answer, which there must be in time.</summary>
    public async Task<Exchange> PayAsync(Func<int, Uri> node, string key, string body = "10")
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        for (int attempt = 0; ; attempt++)
        {
            if (await SendAsync(node(attempt), key, body) is { Status: 200 } answer)
            {
                return answer;
            }

            long begun = TimeProvider.System.GetTimestamp();
            await Task.Delay(Pause, TimeProvider.System, patience.Token);
            long stall = (TimeProvider.System.GetElapsedTime(begun) - Pause).Ticks;
            if (stall > Volatile.Read(ref _longestStall))
            {
                Volatile.Write(ref _longestStall, stall);
            }
        }
    }

    public void Dispose() => _http.Dispose();

    public override string ToString()
    {
        var text = new StringBuilder();
        foreach (IGrouping<int, Exchange> status in _history.GroupBy(exchange => exchange.Status).OrderBy(status => status.Key))
        {
            text.Append(status.Key).Append(": ").Append(status.Count()).Append("  ");
        }

        return text.ToString();
    }
}
