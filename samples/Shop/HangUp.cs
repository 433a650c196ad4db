using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace Shop;

/// <summary>A customer who loses the connection, asks again with the same key, and wants one order.</summary>
internal static class HangUp
{
    private const int Asked = 3;

    private static readonly TimeSpan Slow = TimeSpan.FromMilliseconds(300);

    public static async Task<Incident> PlayAsync(Progress progress, CancellationToken stopping)
    {
        progress.Step("with the toolkit: a customer hangs up");
        (int orders, int charges) with = await PlayAsync(plain: false, stopping);
        progress.Step("without the toolkit: a customer hangs up");
        (int orders, int charges) without = await PlayAsync(plain: true, stopping);
        progress.Say(string.Create(CultureInfo.InvariantCulture, $"""
            A customer loses the connection during the charge, asks again and loses it half-way through the answer, asks again and has it. One key.
            with {with.orders} order and {with.charges} charge, without {without.orders} orders and {without.charges} charges.

            """));
        return new Incident("a client hangs up during a payment, and repeats", "orders; charges", $"{with.orders}; {with.charges}", $"{without.orders}; {without.charges}");
    }

    /// <returns>How many orders and charges there are in the end.</returns>
    public static async Task<(int Orders, int Charges)> PlayAsync(bool plain, CancellationToken stopping)
    {
        await using TourShop shop = await TourShop.StartAsync(toolkit: !plain, [], stopping);
        return await PlayAsync(shop, stopping);
    }

    /// <inheritdoc cref="PlayAsync(bool, CancellationToken)"/>
    /// <exception cref="InvalidOperationException">What would be counted was not placed here.</exception>
    public static async Task<(int Orders, int Charges)> PlayAsync(TourShop shop, CancellationToken stopping)
    {
        (int orders, int charges) = await CountAsync(shop, stopping);
        if ((orders, charges) != (0, 0))
        {
            throw new InvalidOperationException($"The shop of the tour must have no orders when it starts, but has {orders}, and {charges} charges.");
        }

        await shop.TellPaymentsAsync(new Fault(FaultMode.Slow, DelayMs: (int)Slow.TotalMilliseconds), stopping);

        await AskAsync(shop.Address, async connection =>
        {
            while ((await shop.ChargesAsync(stopping)).Charged == 0)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(10), stopping);
            }
        });
        await AskAsync(shop.Address, async connection => await connection.ReadExactlyAsync(new byte[40], stopping));
        string answer = "";
        await AskAsync(shop.Address, async connection => answer = await new StreamReader(connection).ReadToEndAsync(stopping));

        (orders, charges) = await CountAsync(shop, stopping);
        return !answer.StartsWith("HTTP/1.1 201", StringComparison.Ordinal) ? throw new InvalidOperationException($"The last answer was {answer}")
            : orders is < 1 or > Asked || charges is < 1 or > Asked ? throw new InvalidOperationException($"A customer who asks {Asked} times has 1 to {Asked} orders and charges, but here are {orders} and {charges}: somebody else orders, too.")
            : (orders, charges);

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

    /// <summary>Up to a page.</summary>
    private static async Task<(int Orders, int Charges)> CountAsync(TourShop shop, CancellationToken stopping)
    {
        int orders = (await shop.Users.GetStringAsync("orders?size=100", stopping)).Split("placedAt").Length - 1;
        return (orders, (await shop.ChargesAsync(stopping)).Charged);
    }
}
