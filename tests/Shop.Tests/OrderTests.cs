using System.Net;
using System.Text;
using Backend.Toolkit.Pagination;
using Backend.Toolkit.Tests;

namespace Shop.Tests;

/// <summary>What the shop answers while payments is well.</summary>
public sealed class OrderTests
{
    [Fact]
    public async Task An_order_is_paid_charged_once_and_stored_once()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.OrderAsync("teapot", 1250);

        response.StatusCode.Should().Be(HttpStatusCode.Created);
        Order placed = await RunningShop.ReadOrderAsync(response);
        placed.Should().BeEquivalentTo(new { Item = "teapot", Cents = 1250, Status = OrderStatus.Paid });
        response.Headers.Location.Should().Be($"/orders/{placed.Id}");
        (await shop.OrdersAsync()).Should().Equal(placed);
        (await RunningShop.ReadOrderAsync(await shop.Client.GetAsync(response.Headers.Location))).Should().Be(placed);
        (await shop.ChargesAsync()).Should().Be(new ChargeCount(Calls: 1, Charged: 1));
    }

    [Fact]
    public async Task A_client_that_asks_too_often_is_told_when_to_come_back_and_nothing_is_charged()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--RateLimits:client:Limits:0:Permits=1", "--RateLimits:client:Limits:0:Period=01:00:00", "--RateLimits:client:Limits:0:Burst=2");

        using HttpResponseMessage first = await shop.OrderAsync();
        using HttpResponseMessage second = await shop.OrderAsync();
        using HttpResponseMessage refused = await shop.OrderAsync();

        first.Headers.GetValues("RateLimit-Policy").Should().Equal("\"client\";q=2;w=7200");
        first.Headers.GetValues("RateLimit").Should().Equal("\"client\";r=1;t=3600");
        second.StatusCode.Should().Be(HttpStatusCode.Created);
        refused.StatusCode.Should().Be(HttpStatusCode.TooManyRequests);
        refused.Headers.RetryAfter!.Delta.Should().BeCloseTo(TimeSpan.FromHours(1), TimeSpan.FromMinutes(1));
        (await shop.ChargesAsync()).Should().Be(new ChargeCount(Calls: 2, Charged: 2));
        (await shop.StateAsync()).Should().NotBeNull();
    }

    [Fact]
    public async Task Two_shops_on_one_Redis_hold_a_clients_limit_together()
    {
        await using RedisServer redis = await RedisServer.StartAsync();
        string[] arguments =
        [
            $"--redis={redis.ConnectionString}", "--RateLimits:client:Limits:0:Permits=1", "--RateLimits:client:Limits:0:Period=10:00:00", "--RateLimits:client:Limits:0:Burst=4",
            "--RateLimits:client:StoreTimeout=00:00:10", $"--RateLimits:client:KeyPrefix={Guid.NewGuid():N}:",
        ];
        await using RunningShop one = await RunningShop.StartAsync(arguments);
        await using RunningShop two = await RunningShop.StartAsync(arguments);

        List<HttpStatusCode> together = [];
        for (int i = 0; i < 6; i++)
        {
            using HttpResponseMessage answer = await (i % 2 == 0 ? one : two).OrderAsync();
            answer.Headers.GetValues("RateLimit").Should().ContainSingle().Which.Should().StartWith($"\"client\";r={Math.Max(0, 3 - i)};t=");
            together.Add(answer.StatusCode);
        }

        together.Should().Equal(HttpStatusCode.Created, HttpStatusCode.Created, HttpStatusCode.Created, HttpStatusCode.Created, HttpStatusCode.TooManyRequests, HttpStatusCode.TooManyRequests);
    }

    [Fact]
    public async Task A_shop_without_its_Redis_allows_its_clients_its_share()
    {
        await using RunningShop shop = await RunningShop.StartAsync(
            $"--redis=127.0.0.1:{RedisServer.FreePort()},connectTimeout=100", "--nodes=2", "--RateLimits:client:Limits:0:Permits=1", "--RateLimits:client:Limits:0:Period=10:00:00", "--RateLimits:client:Limits:0:Burst=4");

        List<HttpStatusCode> statuses = [];
        for (int i = 0; i < 3; i++)
        {
            using HttpResponseMessage answer = await shop.OrderAsync();
            statuses.Add(answer.StatusCode);
        }

        statuses.Should().Equal(HttpStatusCode.Created, HttpStatusCode.Created, HttpStatusCode.TooManyRequests);
    }

    [Fact]
    public async Task Orders_are_listed_newest_first_page_by_page_and_back_and_exported()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        for (int i = 1; i <= 25; i++)
        {
            (await shop.OrderAsync($"item {i}", cents: i % 5 == 0 ? 200_000 : 1250)).Dispose();
        }

        Page<Order> first = await shop.PageAsync("orders");
        Page<Order> second = await shop.PageAsync($"orders?cursor={first.Next}");
        Page<Order> back = await shop.PageAsync($"orders?cursor={second.Previous}");
        Page<Order> declined = await shop.PageAsync("orders?status=declined&size=3");
        using HttpResponseMessage foreign = await shop.Client.GetAsync($"orders?cursor={declined.Next}");
        using HttpResponseMessage unknown = await shop.Client.GetAsync("orders?status=lost");
        using HttpResponseMessage negative = await shop.Client.GetAsync("orders?size=-1");
        var exported = new StringWriter();
        await Export.RunAsync(shop.Client.BaseAddress!, exported);

        first.Items.Select(order => order.Item).Should().Equal(Enumerable.Range(6, 20).Reverse().Select(i => $"item {i}"));
        second.Items.Select(order => order.Item).Should().Equal("item 5", "item 4", "item 3", "item 2", "item 1");
        (first.Previous, second.Next).Should().Be((null, null));
        back.Items.Should().Equal(first.Items);
        declined.Items.Select(order => order.Item).Should().Equal("item 25", "item 20", "item 15");
        (foreign.StatusCode, negative.StatusCode, unknown.StatusCode).Should().Be((HttpStatusCode.BadRequest, HttpStatusCode.BadRequest, HttpStatusCode.BadRequest));
        (await foreign.Content.ReadAsStringAsync()).Should().Contain("\"reason\":\"foreign\"");
        exported.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Should().HaveCount(25);
    }

    [Theory]
    [InlineData("lost")]
    [InlineData("")]
    [InlineData("1")]
    [InlineData("%2B1")]
    [InlineData("%201")]
    [InlineData("-0")]
    [InlineData("pending,paid")]
    [InlineData("paid,pending")]
    public async Task A_filter_that_is_no_status_is_refused(string status)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage orders = await shop.Client.GetAsync($"orders?status={status}");

        orders.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    [Theory]
    [InlineData("""{"item":"teapot","cents":""")]
    [InlineData("""{"item":"teapot","cents":"many"}""")]
    [InlineData("""{"item":"teapot","cents":12.5}""")]
    [InlineData("""{"item":"teapot","cents":99999999999}""")]
    [InlineData("""{"item":"teapot","cents":0}""")]
    [InlineData("""{"item":"teapot","cents":1000001}""")]
    [InlineData("""{"item":"teapot"}""")]
    [InlineData("""{"item":" ","cents":1250}""")]
    [InlineData("""{"item":7,"cents":1250}""")]
    [InlineData("""{"cents":1250}""")]
    [InlineData("""{"item":"\ud800","cents":1250}""")]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("")]
    public async Task An_order_that_makes_no_sense_is_refused_and_neither_stored_nor_charged(string body)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.PostOrderAsync(new StringContent(body, Encoding.UTF8, "application/json"), "key");

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
        (await shop.OrdersAsync()).Should().BeEmpty();
        (await shop.ChargesAsync()).Calls.Should().Be(0);
    }

    [Fact]
    public async Task Bad_JSON_is_refused_in_development_too()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--environment=Development");

        using HttpResponseMessage response = await shop.PostOrderAsync(new StringContent("{", Encoding.UTF8, "application/json"), "key");

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
    }

    [Fact]
    public async Task An_order_of_more_than_16_kilobytes_is_refused()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.OrderAsync(new string('x', 16 * 1024));

        response.StatusCode.Should().Be(HttpStatusCode.RequestEntityTooLarge);
    }

    [Fact]
    public async Task A_refusal_names_every_field_that_is_wrong()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.OrderAsync(new string('x', 101), -5);

        string problem = await response.Content.ReadAsStringAsync();
        problem.Should().Contain("item must be").And.Contain("cents must be between 1 and 1000000, but is -5.");
    }

    [Fact]
    public async Task An_order_that_nobody_placed_is_not_found()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Client.GetAsync($"orders/{Guid.NewGuid()}");

        response.StatusCode.Should().Be(HttpStatusCode.NotFound);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/problem+json");
    }

    [Fact]
    public async Task A_declined_payment_is_not_retried_and_not_held_against_payments()
    {
        await using RunningShop shop = await RunningShop.StartAsync("--OutboundPolicies:payments:CircuitBreaker:ConsecutiveFailures=3");

        for (int i = 0; i < 5; i++)
        {
            using HttpResponseMessage response = await shop.OrderAsync("car", 500_000);
            response.StatusCode.Should().Be(HttpStatusCode.PaymentRequired);
        }

        (await shop.ChargesAsync()).Should().Be(new ChargeCount(Calls: 5, Charged: 0));
        (await shop.StateAsync()).Circuit.Should().Be(Backend.Toolkit.CircuitBreakers.CircuitState.Closed);
        (await shop.OrdersAsync()).Should().HaveCount(5).And.OnlyContain(order => order.Status == OrderStatus.Declined);
    }

    [Fact]
    public async Task Orders_in_a_folder_outlive_the_shop()
    {
        string folder = Directory.CreateTempSubdirectory("shop-").FullName;
        try
        {
            Order placed;
            await using (RunningShop first = await RunningShop.StartAsync($"--data={folder}"))
            {
                placed = await RunningShop.ReadOrderAsync(await first.OrderAsync());
            }

            await using RunningShop second = await RunningShop.StartAsync($"--data={folder}");
            Order[] orders = await second.OrdersAsync();

            orders.Should().Equal(placed);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
