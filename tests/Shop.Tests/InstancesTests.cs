using System.Net;
using System.Net.Http.Json;
using Backend.Toolkit.Tests;

namespace Shop.Tests;

/// <summary>Shops, payments and the customer in processes of their own.</summary>
public sealed class InstancesTests(PostgreSqlServer postgreSql) : IDisposable
{
    private const string PaymentsSecret = "--payments-secret=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    private const string CustomerSecret = "--customer-secret=whsec_SWxvdmVhcHBsZXBpZXdpdGhjcmVhbWFuZHN1Z2Fy";

    /// <summary>Webhooks that are tried again every second, and taken soon from who is killed.</summary>
    private static readonly string[] Patient =
    [
        "--Webhooks:AttemptTimeout=00:00:02", "--Webhooks:Lease=00:00:07", "--Webhooks:FirstPause=00:00:00.100", "--Webhooks:MaxPause=00:00:01",
        .. Enumerable.Range(0, 50).Select(i => $"--Webhooks:Schedule:{i}=00:00:0{(i == 0 ? 0 : 1)}"),
    ];

    /// <summary>Whether a busy machine answers within 2 s is not asked here.</summary>
    private static readonly string[] Unhurried = ["--OutboundPolicies:payments:Budget:Total=00:00:30", "--RequestBudget:Maximum=00:00:40", "--Idempotency:orders:MaxWait=00:00:10"];

    private readonly string _folder = Directory.CreateTempSubdirectory("shop-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task Two_shops_share_limits_keys_and_deliveries_and_what_one_enqueued_is_delivered_although_it_is_killed()
    {
        string database = await postgreSql.NewDatabaseAsync();
        await using RedisServer redis = await RedisServer.StartAsync();
        string[] urls = [$"http://127.0.0.1:{ShopProcess.LastingPort()}", $"http://127.0.0.1:{ShopProcess.LastingPort()}"];
        await using ShopProcess payments = await ShopProcess.StartAsync(["--only=payments", $"--data={_folder}/payments", $"--shops={urls[0]},{urls[1]}", PaymentsSecret, .. Patient]);
        await using ShopProcess customer = await ShopProcess.StartAsync("--only=customer", $"--data={_folder}/customer", CustomerSecret);
        string[] arguments =
        [
            $"--postgres={database}", $"--redis={redis.ConnectionString}", $"--data={_folder}/shop", $"--payments={payments.Address("payments")}", $"--customer={customer.Address("customer")}", PaymentsSecret, CustomerSecret,
            "--RateLimits:client:Limits:0:Permits=1", "--RateLimits:client:Limits:0:Period=10:00:00", "--RateLimits:client:Limits:0:Burst=8", "--RateLimits:client:StoreTimeout=00:00:10", $"--RateLimits:client:KeyPrefix={Guid.NewGuid():N}:",
            .. Unhurried, .. Patient,
        ];
        ShopProcess[] shops = await Task.WhenAll(urls.Select(url => ShopProcess.StartAsync([$"--urls={url}", .. arguments])));
        await using ShopProcess one = shops[0], two = shops[1];
        using var client = new HttpClient { Timeout = TimeSpan.FromSeconds(30) };

        using HttpResponseMessage first = await OrderAsync(one, "first");
        using HttpResponseMessage repeat = await OrderAsync(two, "first");
        (await client.PostAsync(new Uri(customer.Address("customer"), "broken?value=true"), null)).EnsureSuccessStatusCode();
        using HttpResponseMessage second = await OrderAsync(one, "second");
        await one.KillAsync();
        (await client.PostAsync(new Uri(customer.Address("customer"), "broken?value=false"), null)).EnsureSuccessStatusCode();
        List<HttpStatusCode> further = [];
        for (int i = 0; i < 7; i++)
        {
            using HttpResponseMessage answer = await OrderAsync(two, "second");
            further.Add(answer.StatusCode);
        }

        (first.StatusCode, repeat.StatusCode, second.StatusCode).Should().Be((HttpStatusCode.Created, HttpStatusCode.Created, HttpStatusCode.Created));
        repeat.Headers.GetValues("Idempotent-Replayed").Should().Equal("true");
        (await repeat.Content.ReadAsByteArrayAsync()).Should().Equal(await first.Content.ReadAsByteArrayAsync());
        (await client.GetFromJsonAsync<ChargeCount>(new Uri(payments.Address("payments"), "charges")))!.Charged.Should().Be(2);
        further.Should().Equal([.. Enumerable.Repeat(HttpStatusCode.Created, 5), HttpStatusCode.TooManyRequests, HttpStatusCode.TooManyRequests], "three of the eight were used up, two of them at the shop that is gone");
        await RealTime.UntilAsync(async () => (await client.GetFromJsonAsync<Received>(new Uri(customer.Address("customer"), "received")))!.Count == 2, "the customer hears of both orders", TimeSpan.FromMinutes(1));

        Task<HttpResponseMessage> OrderAsync(ShopProcess shop, string key) => RunningShop.PostOrderAsync(client, new Uri(shop.Address("shop"), "orders"), key);
    }

    [Fact]
    public async Task A_shop_starts_before_payments_and_hears_of_a_charge_although_both_were_restarted_in_between()
    {
        string shopUrl = $"http://127.0.0.1:{ShopProcess.LastingPort()}", paymentsUrl = $"http://127.0.0.1:{ShopProcess.LastingPort()}";
        string[] shopArguments = [$"--urls={shopUrl}", $"--data={_folder}/shop", $"--payments={paymentsUrl}", PaymentsSecret, .. Unhurried];
        string[] paymentsArguments = ["--only=payments", $"--urls={paymentsUrl}", $"--data={_folder}/payments", $"--shops={shopUrl}", PaymentsSecret, .. Patient];
        Order pending;
        await using (RunningShop shop = await RunningShop.StartAsync(shopArguments))
        {
            (await shop.OrderAsync(key: "one")).StatusCode.Should().Be(HttpStatusCode.BadGateway);
            await using ShopProcess payments = await ShopProcess.StartAsync(paymentsArguments);
            await RealTime.UntilAsync(async () => (await shop.OrderAsync(key: "one")).StatusCode == HttpStatusCode.Created, "payments is there, and the order is paid", TimeSpan.FromMinutes(1));

            await shop.TellPaymentsAsync("failing");
            (await shop.OrderAsync(key: "two")).StatusCode.Should().NotBe(HttpStatusCode.Created);
            pending = (await shop.OrdersAsync()).Single(order => order.Status == OrderStatus.Pending);
            await shop.TellPaymentsAsync("healthy");
            await payments.KillAsync();
        }

        await using (ShopProcess payments = await ShopProcess.StartAsync(paymentsArguments))
        {
            using var client = new HttpClient();
            using HttpResponseMessage charged = await client.SendAsync(new HttpRequestMessage(HttpMethod.Post, $"{paymentsUrl}/charges") { Headers = { { "Idempotency-Key", "two" } }, Content = JsonContent.Create(new Charge(pending.Id, pending.Cents)) });
            charged.StatusCode.Should().Be(HttpStatusCode.OK);
            await payments.KillAsync();
        }

        await using ShopProcess again = await ShopProcess.StartAsync(paymentsArguments);
        await using RunningShop restarted = await RunningShop.StartAsync(shopArguments);
        await RealTime.UntilAsync(async () => (await restarted.OrdersAsync()).All(order => order.Status == OrderStatus.Paid), "payments tells of the charge", TimeSpan.FromMinutes(1));
    }

    [Theory]
    [InlineData("--only must be payments or customer, but is shop.", "--only=shop")]
    [InlineData("--only needs --data FOLDER", "--only=payments")]
    [InlineData("payments in a process of its own needs --payments-secret", "--only=payments", "--data=DATA")]
    [InlineData("payments in a process of its own needs --payments-secret", "--payments=http://127.0.0.1:5090")]
    [InlineData("--payments must be a URL such as http://127.0.0.1:5090, but is nowhere.", "--payments=nowhere", PaymentsSecret)]
    [InlineData("customer in a process of its own needs --customer-secret", "--customer=http://127.0.0.1:5091")]
    [InlineData("--urls must name loopback addresses", "--only=customer", "--data=DATA", "--urls=http://0.0.0.0:0", CustomerSecret)]
    public async Task Arguments_that_make_no_sense_are_refused_with_what_to_do(string reason, params string[] arguments)
    {
        Func<Task> start = async () => await ShopProcess.StartAsync([.. arguments.Select(argument => argument.Replace("DATA", _folder, StringComparison.Ordinal))]);

        await start.Should().ThrowAsync<InvalidOperationException>().WithMessage($"It did not start: {reason}*");
    }
}
