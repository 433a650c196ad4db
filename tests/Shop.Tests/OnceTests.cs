using System.Diagnostics;
using System.Net;
using Backend.Toolkit.Tests;

[assembly: AssemblyFixture(typeof(PostgreSqlServer))]

namespace Shop.Tests;

/// <summary>One order for one key, whatever happens on the way.</summary>
public sealed class OnceTests(PostgreSqlServer postgreSql)
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_order_that_is_sent_twice_is_placed_and_charged_once_and_answered_the_same(bool inPostgreSql)
    {
        await using RunningShop shop = await RunningShop.StartAsync(inPostgreSql ? [$"--postgres={await postgreSql.NewDatabaseAsync()}"] : []);

        using HttpResponseMessage first = await shop.OrderAsync(key: "\"one\"");
        using HttpResponseMessage repeat = await shop.OrderAsync(key: "one");
        using HttpResponseMessage other = await shop.OrderAsync(cents: 9, key: "one");

        repeat.StatusCode.Should().Be(HttpStatusCode.Created);
        repeat.Headers.GetValues("Idempotent-Replayed").Should().Equal("true");
        repeat.Headers.Location.Should().Be(first.Headers.Location);
        (await repeat.Content.ReadAsByteArrayAsync()).Should().Equal(await first.Content.ReadAsByteArrayAsync());
        other.StatusCode.Should().Be(HttpStatusCode.UnprocessableEntity);
        (await shop.OrdersAsync()).Should().ContainSingle().Which.Status.Should().Be(OrderStatus.Paid);
        (await shop.ChargesAsync()).Should().Be(new ChargeCount(Calls: 1, Charged: 1));
    }

    [Fact]
    public async Task Shops_on_one_PostgreSQL_place_an_order_once_between_them()
    {
        string database = await postgreSql.NewDatabaseAsync();
        await using RunningShop one = await RunningShop.StartAsync($"--postgres={database}", "--Idempotency:orders:MaxWait=00:00:20");
        await using RunningShop two = await RunningShop.StartAsync($"--postgres={database}", "--Idempotency:orders:MaxWait=00:00:20");
        await one.TellPaymentsAsync("slow", delayMs: 200);
        await two.TellPaymentsAsync("slow", delayMs: 200);

        HttpResponseMessage[] answers = await Task.WhenAll(Enumerable.Range(0, 8).Select(i => (i % 2 == 0 ? one : two).OrderAsync(key: "one")));

        answers.Should().OnlyContain(answer => answer.StatusCode == HttpStatusCode.Created);
        answers.Count(answer => answer.Headers.Contains("Idempotent-Replayed")).Should().Be(7);
        (await two.OrdersAsync()).Should().ContainSingle();
        ((await one.ChargesAsync()).Charged + (await two.ChargesAsync()).Charged).Should().Be(1);
    }

    [Theory]
    [InlineData("", HttpStatusCode.BadRequest)]
    [InlineData("\"open", HttpStatusCode.BadRequest)]
    [InlineData("two words", HttpStatusCode.BadRequest)]
    [InlineData("a, b", HttpStatusCode.BadRequest)]
    public async Task An_order_without_a_proper_key_is_refused_with_the_reason(string key, HttpStatusCode status)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.OrderAsync(key: key);

        response.StatusCode.Should().Be(status);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        (await response.Content.ReadAsStringAsync()).Should().Contain("Idempotency-Key");
        (await shop.OrdersAsync()).Should().BeEmpty();
    }

    [Fact]
    public async Task An_order_whose_charge_had_no_answer_is_the_one_that_is_paid_later()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await shop.TellPaymentsAsync("hanging");
        using HttpResponseMessage late = await shop.OrderAsync(key: "one");
        Order order = (await shop.OrdersAsync()).Single();
        await shop.TellPaymentsAsync("healthy");

        await RealTime.UntilAsync(async () => (await shop.OrderAsync(key: "one")).StatusCode == HttpStatusCode.Created, "the order is paid");

        late.StatusCode.Should().Be(HttpStatusCode.GatewayTimeout);
        (await shop.OrdersAsync()).Should().Equal(order with { Status = OrderStatus.Paid });
        (await shop.ChargesAsync()).Charged.Should().Be(1);
    }

    [Fact]
    public async Task A_shop_that_is_killed_during_a_charge_goes_on_with_the_same_order()
    {
        string folder = Directory.CreateTempSubdirectory("shop-").FullName;
        try
        {
            using (Process killed = RunningTests.StartProcess($"--data={folder}", "--OutboundPolicies:payments:Budget:Total=00:01:00", "--RequestBudget:Maximum=00:01:00", "--Idempotency:orders:Lease=00:00:01"))
            using (var client = new HttpClient())
            {
                Uri address = new(await RunningTests.ReadAddressAsync(killed)), payments = new(await RunningTests.ReadAddressAsync(killed));
                (await client.PostAsync(new Uri(payments, "faults"), new StringContent("""{"mode":"hanging"}""", new System.Net.Http.Headers.MediaTypeHeaderValue("application/json")))).EnsureSuccessStatusCode();
                Task lost = RunningShop.PostOrderAsync(client, new Uri(address, "orders"), "one");
                await RealTime.UntilAsync(async () => (await client.GetStringAsync(new Uri(payments, "charges"))).Contains("\"charged\":1", StringComparison.Ordinal), "the order is charged");
                killed.Kill();
                await killed.WaitForExitAsync();
                await ((Func<Task>)(() => lost)).Should().ThrowAsync<HttpRequestException>();
            }

            await using RunningShop shop = await RunningShop.StartAsync($"--data={folder}", "--Idempotency:orders:Lease=00:00:01");
            Order order = (await shop.OrdersAsync()).Single();
            await RealTime.UntilAsync(async () => (await shop.OrderAsync(key: "one")).StatusCode == HttpStatusCode.Created, "the order is paid");

            (await shop.OrdersAsync()).Should().Equal(order with { Status = OrderStatus.Paid });
            (await shop.ChargesAsync()).Charged.Should().Be(1);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public async Task A_customer_who_loses_the_connection_twice_has_one_order_with_the_toolkit_and_three_without()
    {
        (int Orders, int Charges) with = await HangUp.PlayAsync(plain: false, TestContext.Current.CancellationToken);
        (int Orders, int Charges) without = await HangUp.PlayAsync(plain: true, TestContext.Current.CancellationToken);

        with.Should().Be((1, 1));
        without.Should().Be((3, 3));
    }
}
