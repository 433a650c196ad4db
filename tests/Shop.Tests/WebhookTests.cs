using System.Net;
using System.Net.Http.Json;
using System.Text.RegularExpressions;

namespace Shop.Tests;

/// <summary>What the shop tells its customers, and what payments tells the shop.</summary>
public sealed partial class WebhookTests
{
    [Fact]
    public async Task A_customer_hears_of_each_order_once()
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        (await shop.OrderAsync(key: "one")).EnsureSuccessStatusCode();
        (await shop.OrderAsync(key: "one")).EnsureSuccessStatusCode();
        (await shop.OrderAsync("car", 200_000)).StatusCode.Should().Be(HttpStatusCode.PaymentRequired);
        await RealTime.UntilAsync(async () => (await shop.ReceivedAsync()).Count == 2, "both orders are told of");

        string page = await shop.Client.GetStringAsync("webhooks");
        page.Should().Contain("order.created").And.Contain("order.declined").And.Contain("Delivered").And.NotContain("dead letter");
        (await shop.ReceivedAsync()).Ids.Distinct().Should().HaveCount(2);
    }

    [Fact]
    public async Task A_customer_who_was_broken_gets_what_was_missed()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        (await shop.Customer.PostAsync("broken?value=true", null)).EnsureSuccessStatusCode();
        (await shop.OrderAsync()).EnsureSuccessStatusCode();
        await RealTime.UntilAsync(async () => (await shop.Client.GetStringAsync("webhooks")).Contains("500 in", StringComparison.Ordinal), "the attempt is shown");

        (await shop.Customer.PostAsync("broken?value=false", null)).EnsureSuccessStatusCode();

        await RealTime.UntilAsync(async () => (await shop.ReceivedAsync()).Count == 1, "the second attempt succeeds");
    }

    [Fact]
    public async Task What_was_delivered_can_be_sent_again_and_is_taken_once()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        (await shop.OrderAsync()).EnsureSuccessStatusCode();
        await RealTime.UntilAsync(async () => (await shop.Client.GetStringAsync("webhooks")).Contains("Delivered", StringComparison.Ordinal), "the delivery is shown");
        string resend = Resend().Match(await shop.Client.GetStringAsync("webhooks")).Groups[1].Value;

        using HttpResponseMessage again = await shop.Client.PostAsync(resend, null);
        using HttpResponseMessage unknown = await shop.Client.PostAsync("webhooks/4711/resend", null);
        using HttpResponseMessage foreign = await shop.Client.SendAsync(new HttpRequestMessage(HttpMethod.Post, resend) { Headers = { { "Sec-Fetch-Site", "cross-site" } } });

        await RealTime.UntilAsync(async () => Attempt().Count(await shop.Client.GetStringAsync("webhooks")) == 2, "both attempts are shown");
        again.StatusCode.Should().Be(HttpStatusCode.OK);
        unknown.StatusCode.Should().Be(HttpStatusCode.NotFound);
        foreign.StatusCode.Should().Be(HttpStatusCode.Forbidden);
        (await shop.ReceivedAsync()).Count.Should().Be(1, "the customer remembers its id");
    }

    [Theory]
    [InlineData("http://10.1.2.3/")]
    [InlineData("http://[::ffff:169.254.169.254]/")]
    [InlineData("http://\uFF11\uFF10.0.0.1/")]
    [InlineData("ftp://example.com/")]
    [InlineData("")]
    public async Task An_endpoint_that_leads_inside_is_refused_with_the_reason(string url)
    {
        await using RunningShop shop = await RunningShop.StartAsync();

        using HttpResponseMessage response = await shop.Client.PostAsJsonAsync("webhooks/endpoints", new { url });

        response.StatusCode.Should().Be(HttpStatusCode.BadRequest);
        (await response.Content.ReadAsStringAsync()).Should().Contain("This endpoint is refused.").And.MatchRegex("\"detail\":\"[A-Z]");
    }

    [Fact]
    public async Task A_charge_that_payments_did_not_sign_changes_nothing()
    {
        await using RunningShop shop = await RunningShop.StartAsync();
        await shop.TellPaymentsAsync("failing");
        (await shop.OrderAsync()).StatusCode.Should().Be(HttpStatusCode.BadGateway);
        Order pending = (await shop.OrdersAsync()).Single();
        using var forged = new HttpRequestMessage(HttpMethod.Post, "webhooks/payments") { Content = JsonContent.Create(new { orderId = pending.Id, cents = pending.Cents }) };
        forged.Headers.Add("webhook-id", "msg_1");
        forged.Headers.Add("webhook-timestamp", TimeProvider.System.GetUtcNow().ToUnixTimeSeconds().ToString(System.Globalization.CultureInfo.InvariantCulture));
        forged.Headers.Add("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");

        using HttpResponseMessage response = await shop.Client.SendAsync(forged);

        response.StatusCode.Should().Be(HttpStatusCode.Unauthorized);
        (await shop.OrdersAsync()).Should().Equal(pending);
    }

    [Fact]
    public async Task A_shop_that_starts_again_tells_its_customer_at_the_new_address()
    {
        string folder = Directory.CreateTempSubdirectory("shop-").FullName;
        try
        {
            await using (RunningShop first = await RunningShop.StartAsync($"--data={folder}"))
            {
                (await first.OrderAsync()).EnsureSuccessStatusCode();
                await RealTime.UntilAsync(async () => (await first.ReceivedAsync()).Count == 1, "the order is told of");
            }

            await using RunningShop second = await RunningShop.StartAsync($"--data={folder}");
            (await second.OrderAsync()).EnsureSuccessStatusCode();

            await RealTime.UntilAsync(async () => (await second.ReceivedAsync()).Count == 2, "the second order is told of");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [GeneratedRegex("action=\"/(webhooks/[0-9]+/resend)\"")]
    private static partial Regex Resend();

    [GeneratedRegex("200 in [0-9]+ ms")]
    private static partial Regex Attempt();
}
