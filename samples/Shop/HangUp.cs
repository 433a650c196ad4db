using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Shop;

/// <summary>A customer who loses the connection, asks again with the same key, and wants one order.</summary>
internal static class HangUp
{
    private static readonly TimeSpan Slow = TimeSpan.FromMilliseconds(300);

    public static async Task PlayAsync(TextWriter output, CancellationToken stopping)
    {
        (int orders, int charges) with = await PlayAsync(plain: false, stopping), without = await PlayAsync(plain: true, stopping);
        await output.WriteLineAsync(string.Create(CultureInfo.InvariantCulture, $"""
            A customer loses the connection during the charge, asks again and loses it half-way through the answer, asks again and has it. One key.
            with {with.orders} order and {with.charges} charge, without {without.orders} orders and {without.charges} charges.
            """));
    }

    /// <returns>How many orders and charges there are in the end.</returns>
    public static async Task<(int Orders, int Charges)> PlayAsync(bool plain, CancellationToken stopping)
    {
        await using WebApplication shop = ShopApplication.Build("--urls", "http://127.0.0.1:0", "--plain", $"{plain}", "--Logging:LogLevel:Default", "None", "--Logging:LogLevel:Backend.Toolkit", "None");
        await shop.StartAsync(stopping);
        var address = new Uri(shop.Urls.First());
        using var users = new HttpClient { BaseAddress = address };
        using var payments = new HttpClient { BaseAddress = new Uri(shop.Services.GetRequiredService<PaymentsService>().Address) };
        (await payments.PostAsJsonAsync("faults", new { mode = "slow", delayMs = Slow.TotalMilliseconds }, stopping)).EnsureSuccessStatusCode();

        await AskAsync(address, async connection =>
        {
            while ((await payments.GetFromJsonAsync<ChargeCount>("charges", stopping))!.Charged == 0)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(10), stopping);
            }
        });
        await AskAsync(address, async connection => await connection.ReadExactlyAsync(new byte[40], stopping));
        string answer = "";
        await AskAsync(address, async connection => answer = await new StreamReader(connection).ReadToEndAsync(stopping));

        int orders = (await users.GetStringAsync("orders?size=100", stopping)).Split("placedAt").Length - 1;
        ChargeCount charges = (await payments.GetFromJsonAsync<ChargeCount>("charges", stopping))!;
        await shop.StopAsync(CancellationToken.None);
        return answer.StartsWith("HTTP/1.1 201", StringComparison.Ordinal) ? (orders, charges.Charged) : throw new InvalidOperationException($"The last answer was {answer}");

        async Task AskAsync(Uri address, Func<NetworkStream, Task> thenHangUp)
        {
            const string Order = """{"item":"teapot","cents":1250}""";
            using var client = new TcpClient();
            await client.ConnectAsync(address.Host, address.Port, stopping);
            await using NetworkStream connection = client.GetStream();
            string request = $"POST /orders HTTP/1.1\r\nHost: {address.Authority}\r\nConnection: close\r\nIdempotency-Key: \"one\"\r\nContent-Type: application/json\r\nContent-Length: {Order.Length}\r\n\r\n{Order}";
            await connection.WriteAsync(Encoding.ASCII.GetBytes(request), stopping);
            await thenHangUp(connection);
            client.LingerState = new LingerOption(enable: true, seconds: 0);
        }
    }
}
