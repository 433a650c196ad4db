using System.ComponentModel.DataAnnotations;
using System.Globalization;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;

namespace Shop;

/// <summary>How much load, for how long.</summary>
internal sealed record Load([property: Range(1, 100)] int PerSecond, [property: Range(1, 60)] int Seconds)
{
    public Dictionary<string, string[]> Problems()
    {
        var problems = new Dictionary<string, string[]>();
        if (PerSecond is < 1 or > 100)
        {
            problems["perSecond"] = [string.Create(CultureInfo.InvariantCulture, $"perSecond must be between 1 and 100, but is {PerSecond}.")];
        }

        if (Seconds is < 1 or > 60)
        {
            problems["seconds"] = [string.Create(CultureInfo.InvariantCulture, $"seconds must be between 1 and 60, but is {Seconds}.")];
        }

        return problems;
    }
}

/// <summary>The run that there is or was last.</summary>
internal sealed record LoadState(int PerSecond, int Seconds, int Sent, int Answered, bool IsRunning);

/// <summary>
/// Customers in a hurry: orders to this shop's own address, over HTTP, at a steady pace whatever the answers, each under a key of its own, and one in ten of them twice. One run at a time. A run that is
/// stopped waits for the answers to what it sent.
/// </summary>
internal sealed class LoadRun(IServer server, TimeProvider time, IHostApplicationLifetime lifetime) : IDisposable
{
    private const int MostAtOnce = 256;
    private const int RepeatsEvery = 10;

    private static readonly TimeSpan LongestDelay = TimeSpan.FromSeconds(1);

    private static readonly string[] Items = ["teapot", "kettle", "cup", "saucer", "tea cosy", "strainer"];

    private readonly Lock _gate = new();
    private readonly HttpClient _client = new(new SocketsHttpHandler { UseProxy = false, ActivityHeadersPropagator = null, PooledConnectionIdleTimeout = TimeSpan.FromSeconds(2) }) { Timeout = TimeSpan.FromSeconds(10) };
    private CancellationTokenSource? _stop;
    private Load? _load;
    private int _sent;
    private int _answered;

    public LoadState? State
    {
        get
        {
            lock (_gate)
            {
                return _load is null ? null : new LoadState(_load.PerSecond, _load.Seconds, Volatile.Read(ref _sent), Volatile.Read(ref _answered), _stop is not null);
            }
        }
    }

    /// <returns>False: there is one already.</returns>
    public bool TryStart(Load load)
    {
        CancellationTokenSource stop;
        lock (_gate)
        {
            if (_stop is not null || lifetime.ApplicationStopping.IsCancellationRequested)
            {
                return false;
            }

            (_load, _sent, _answered) = (load, 0, 0);
            _stop = stop = CancellationTokenSource.CreateLinkedTokenSource(lifetime.ApplicationStopping);
        }

        // Neither the budget nor the trace of the request that asked for it goes on in the run.
        using (ExecutionContext.SuppressFlow())
        {
            _ = Task.Run(() => RunAsync(load, stop));
        }

        return true;
    }

    /// <returns>False: there is none.</returns>
    public bool TryStop()
    {
        lock (_gate)
        {
            _stop?.Cancel();
            return _stop is not null;
        }
    }

    public void Dispose() => _client.Dispose();

    private async Task RunAsync(Load load, CancellationTokenSource stop)
    {
        var orders = new Uri(new Uri(server.Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First()), "orders");
        using var places = new SemaphoreSlim(MostAtOnce);
        try
        {
            long start = time.GetTimestamp();
            TimeSpan lost = TimeSpan.Zero;
            string key = "";
            for (int i = 0; i < load.PerSecond * load.Seconds; i++)
            {
                TimeSpan early = TimeSpan.FromSeconds((double)i / load.PerSecond) + lost - time.GetElapsedTime(start);
                if (early < -LongestDelay)
                {
                    // The process stood still: what it missed is not made up for at once.
                    lost -= early;
                }

                if (early > TimeSpan.Zero)
                {
                    await Task.Delay(early, time, stop.Token);
                }

                await places.WaitAsync(stop.Token);
                key = i % RepeatsEvery == RepeatsEvery - 1 ? key : $"load-{Guid.NewGuid()}";
                _ = OrderAsync(orders, key, places);
            }
        }
        catch (OperationCanceledException)
        {
        }
        finally
        {
            for (int i = 0; i < MostAtOnce; i++)
            {
                await places.WaitAsync(CancellationToken.None);
            }

            lock (_gate)
            {
                _stop = null;
            }

            stop.Dispose();
        }
    }

    private async Task OrderAsync(Uri orders, string key, SemaphoreSlim places)
    {
        try
        {
            Interlocked.Increment(ref _sent);

            // What is ordered follows from the key: a repeat asks for the same.
            int dice = key[^1];
            using var request = new HttpRequestMessage(HttpMethod.Post, orders) { Content = JsonContent.Create(new NewOrder(Items[dice % Items.Length], 95 + (100 * dice))) };
            request.Headers.Add("Idempotency-Key", $"\"{key}\"");
            using HttpResponseMessage answer = await _client.SendAsync(request);
            Interlocked.Increment(ref _answered);
        }
        catch (Exception lost) when (lost is HttpRequestException or OperationCanceledException)
        {
            // Sent, and not answered: the state says so.
        }
        finally
        {
            places.Release();
        }
    }
}
