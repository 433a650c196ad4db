using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Backend.Toolkit.Webhooks.AspNetCore.Tests;

/// <summary>1 000 clients at once, each of whom has 25 MB to send that nobody signed. They live in the process whose memory is measured, as does the server, and so are one thread over sockets that do not block.</summary>
[Collection("The meter")]
public sealed class FloodTests(ITestOutputHelper output)
{
    private const int Clients = 1_000;
    private const int BodyBytes = 25_000_000;
    private const long MostBytes = 64_000_000;

    /// <summary>A chunk of 64 KiB, and 64 KiB and eight bytes of anything.</summary>
    private static readonly byte[] Chunk = [.. "10000\r\n"u8, .. new byte[65_536], .. "\r\n"u8];

    public static TheoryData<string, bool, bool, Action<WebhookReceivingOptions>, int[]> Floods { get; } = new()
    {
        { "unsigned", false, false, static _ => { }, [401] },
        { "unsigned in chunks", false, true, static _ => { }, [401] },
        { "wrongly signed", true, false, static _ => { }, [413] },
        { "wrongly signed in chunks", true, true, static _ => { }, [413, 503] },
        { "wrongly signed, and as long as may be", true, false, static o => (o.MaxBodyBytes, o.MaxUnverifiedBytes) = (30_000_000, 30_000_000), [401, 503] },
    };

    [Theory]
    [MemberData(nameof(Floods), DisableDiscoveryEnumeration = true)]
    public async Task A_thousand_posts_of_25_MB_at_once_cost_less_than_64_MB(string name, bool signed, bool chunked, Action<WebhookReceivingOptions> configure, int[] expected)
    {
        int runs = 0;
        var options = new WebhookReceivingOptions();
        configure(options);
        await using Server server = await Server.StartAsync(app => app.MapPost("/", () => $"{++runs}").VerifyWebhook("orders"), setup => setup.Receiving = configure);
        byte[] head = Server.Head("/", signed ? server.Sign("another body"u8.ToArray()) : [], chunked ? "Transfer-Encoding: chunked\r\n\r\n" : $"Content-Length: {BodyBytes}\r\n\r\n");
        Flood(server.Address, head, chunked, clients: 20);

        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        long before = Environment.WorkingSet;
        long peak = before, mostHeld = 0, start = TimeProvider.System.GetTimestamp();
        ITimer sampler = TimeProvider.System.CreateTimer(
            _ =>
            {
                InterlockedMax(ref peak, Environment.WorkingSet);
                InterlockedMax(ref mostHeld, server.Held);
            },
            null, TimeSpan.Zero, TimeSpan.FromMilliseconds(20));
        Client[] outcomes;
        await using (sampler)
        {
            outcomes = await Task.Factory.StartNew(() => Flood(server.Address, head, chunked, Clients), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        TimeSpan took = TimeProvider.System.GetElapsedTime(start);
        string statuses = string.Join(", ", outcomes.GroupBy(outcome => outcome.Status).OrderBy(group => group.Key).Select(group => $"{group.Key}: {group.Count()}"));
        output.WriteLine($"{name}: {(peak - before) / 1e6:F1} MB more, {mostHeld / 1e6:F1} MB held, {outcomes.Sum(outcome => outcome.Sent) / 1e6:F0} MB sent, {took.TotalSeconds:F1} s; {statuses} (0: closed before it was read)");
        outcomes.Select(outcome => outcome.Status).Where(status => status != 0).Should().NotBeEmpty().And.OnlyContain(status => expected.Contains(status));
        (peak - before).Should().BeLessThan(MostBytes);
        mostHeld.Should().BeLessThanOrEqualTo(options.MaxUnverifiedBytes);
        runs.Should().Be(0);
        Eventually.BeTrue(() => server.Held == 0, "nothing is left");
        (await server.SendAsync("/")).Status.Should().Be(200, "the next webhook is taken");
    }

    private static void InterlockedMax(ref long most, long value)
    {
        for (long seen = Volatile.Read(ref most); value > seen; seen = Volatile.Read(ref most))
        {
            if (Interlocked.CompareExchange(ref most, value, seen) == seen)
            {
                return;
            }
        }
    }

    /// <summary>Each sends until all is sent or the server has answered or closed.</summary>
    private static Client[] Flood(Uri server, byte[] head, bool chunked, int clients)
    {
        Client[] all = [.. Enumerable.Range(0, clients).Select(_ => new Client(server.Port, head, chunked))];
        long start = TimeProvider.System.GetTimestamp();
        try
        {
            var reading = new List<Socket>(clients);
            var writing = new List<Socket>(clients);
            Dictionary<Socket, Client> bySocket = all.ToDictionary(client => client.Socket);
            while (all.Any(client => !client.IsDone))
            {
                TimeProvider.System.GetElapsedTime(start).Should().BeLessThan(TimeSpan.FromMinutes(2));
                reading.Clear();
                writing.Clear();
                foreach (Client client in all.Where(client => !client.IsDone))
                {
                    reading.Add(client.Socket);
                    if (client.HasMore)
                    {
                        writing.Add(client.Socket);
                    }
                }

                Socket.Select(reading, writing, null, TimeSpan.FromMilliseconds(100));
                writing.ForEach(socket => bySocket[socket].Write());
                reading.ForEach(socket => bySocket[socket].Read());
            }
        }
        finally
        {
            Array.ForEach(all, client => client.Socket.Dispose());
        }

        return all;
    }

    private sealed class Client
    {
        private readonly byte[] _answer = new byte[12];
        private readonly byte[] _head;
        private readonly bool _chunked;
        private int _headSent;
        private int _pieceSent;
        private int _got;

        public Client(int port, byte[] head, bool chunked)
        {
            (_head, _chunked) = (head, chunked);
            Socket.Connect(IPAddress.Loopback, port);
            Socket.Blocking = false;
        }

        public Socket Socket { get; } = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);

        public long Sent { get; private set; }

        public int Status { get; private set; }

        public bool IsDone { get; private set; }

        public bool HasMore { get; private set; } = true;

        public void Write()
        {
            ReadOnlySpan<byte> next = _headSent < _head.Length ? _head.AsSpan(_headSent)
                : _chunked ? Chunk.AsSpan(_pieceSent)
                : Chunk.AsSpan(0, (int)Math.Min(Chunk.Length, BodyBytes - Sent));
            int count = Socket.Send(next, SocketFlags.None, out SocketError error);
            if (error is not (SocketError.Success or SocketError.WouldBlock))
            {
                HasMore = false; // What the server has said can still be read.
                return;
            }

            if (_headSent < _head.Length)
            {
                _headSent += count;
                return;
            }

            _pieceSent = (_pieceSent + count) % Chunk.Length;
            Sent += count;
            HasMore = Sent < BodyBytes;
        }

        public void Read()
        {
            int count = Socket.Receive(_answer.AsSpan(_got), SocketFlags.None, out SocketError error);
            _got += count;
            if (_got == _answer.Length)
            {
                Status = int.Parse(Encoding.ASCII.GetString(_answer)[^3..], System.Globalization.CultureInfo.InvariantCulture);
            }

            // Most go on sending after they were answered: a client is done when it was cut off or has sent all.
            if (_got == _answer.Length || (count == 0 && error != SocketError.WouldBlock))
            {
                IsDone = !HasMore || _got < _answer.Length;
            }
        }
    }
}
