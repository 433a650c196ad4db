using System.Net;
using System.Net.Sockets;

namespace Backend.Toolkit.Idempotency.PostgreSql.Tests;

/// <summary>Stands between a client and the server on loopback, and counts how often the client speaks after the server did: round trips, for one connection at a time.</summary>
internal sealed class Proxy : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _closing = new();
    private readonly Task _accepting;
    private int _turns;
    private volatile bool _serverSpoke = true;

    public Proxy(int serverPort)
    {
        _listener.Start();
        _accepting = AcceptAsync(serverPort);
    }

    public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

    public int RoundTrips => Volatile.Read(ref _turns);

    public async ValueTask DisposeAsync()
    {
        await _closing.CancelAsync();
        _listener.Stop();
        await _accepting;
        _closing.Dispose();
    }

    private async Task AcceptAsync(int serverPort)
    {
        List<Task> all = [];
        try
        {
            while (true)
            {
                Socket client = await _listener.AcceptSocketAsync(_closing.Token);
                Socket server = new(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                client.NoDelay = true;
                await server.ConnectAsync(IPAddress.Loopback, serverPort, _closing.Token);
                all.Add(PumpAsync(client, server, () =>
                {
                    if (_serverSpoke)
                    {
                        _serverSpoke = false;
                        Interlocked.Increment(ref _turns);
                    }
                }));
                all.Add(PumpAsync(server, client, () => _serverSpoke = true));
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            await Task.WhenAll(all);
        }
    }

    private async Task PumpAsync(Socket from, Socket to, Action speaks)
    {
        byte[] buffer = new byte[65_536];
        try
        {
            int count;
            while ((count = await from.ReceiveAsync(buffer, _closing.Token)) > 0)
            {
                speaks();
                await to.SendAsync(buffer.AsMemory(0, count), _closing.Token);
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or SocketException or ObjectDisposedException)
        {
            // One of the two has gone.
        }

        from.Dispose();
        to.Dispose();
    }
}
