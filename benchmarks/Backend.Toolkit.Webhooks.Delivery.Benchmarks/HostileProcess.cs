using System.Net;
using System.Net.Sockets;

/// <summary>Four kinds of hostile endpoints in a process of their own: a body that drips, a body without an end, headers of a megabyte, a listener that never accepts. Prints their ports.</summary>
internal static class HostileProcess
{
    public static async Task<int> RunAsync(string[] args)
    {
        _ = args;
        byte[] chunk = new byte[16_384];
        byte[] headers = [.. "HTTP/1.1 200 OK\r\nX: "u8, .. Enumerable.Repeat((byte)'x', 1_000_000), .. "\r\n\r\n"u8];
        int drip = Listen(async stream =>
        {
            await stream.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"u8.ToArray());
            while (true)
            {
                await Task.Delay(250);
                await stream.WriteAsync("x"u8.ToArray());
            }
        });
        int endless = Listen(async stream =>
        {
            await stream.WriteAsync("HTTP/1.1 500 No\r\n\r\n"u8.ToArray());
            while (true)
            {
                await stream.WriteAsync(chunk);
            }
        });
        int huge = Listen(async stream => await stream.WriteAsync(headers));
        var silent = new TcpListener(IPAddress.Loopback, 0);
        silent.Start(1);
        Console.WriteLine($"{drip} {endless} {huge} {((IPEndPoint)silent.LocalEndpoint).Port}");
        await Task.Delay(Timeout.InfiniteTimeSpan);
        return 0;
    }

    private static int Listen(Func<NetworkStream, Task> answer)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start(512);
        _ = Task.Run(async () =>
        {
            while (true)
            {
                TcpClient client = await listener.AcceptTcpClientAsync();
                _ = Task.Run(async () =>
                {
                    using (client)
                    {
                        try
                        {
                            byte[] request = new byte[16_384];
                            await client.GetStream().ReadAtLeastAsync(request, 1);
                            await answer(client.GetStream());
                        }
                        catch (IOException)
                        {
                            // The other side has gone.
                        }
                    }
                });
            }
        });
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
