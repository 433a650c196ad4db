using Microsoft.AspNetCore.Mvc;
using Microsoft.AspNetCore.Mvc.ApplicationParts;
using Microsoft.AspNetCore.Mvc.Formatters;
using Microsoft.Extensions.DependencyInjection;

namespace Backend.Toolkit.Idempotency.AspNetCore.Tests;

internal static class Controllers
{
    public static void Add(IServiceCollection services) => services
        .AddControllers(options => options.OutputFormatters.RemoveType<StringOutputFormatter>())
        .ConfigureApplicationPartManager(parts => parts.ApplicationParts.Add(new AssemblyPart(typeof(OrdersController).Assembly)));
}

public sealed record Order(string Text, int Number);

[ApiController]
[Route("/orders")]
[Idempotent("orders")]
public sealed class OrdersController : ControllerBase
{
    private static int _runs;

    [HttpPost]
    public ActionResult<Order> Post(Order order) => Created("/orders/1", order with { Number = Interlocked.Increment(ref _runs) });

    [HttpGet]
    public string Get() => "safe";
}

[ApiController]
[Route("/free")]
public sealed class FreeController : ControllerBase
{
    [HttpPost]
    public ActionResult Post() => Ok("free");
}

/// <summary>Has no route of its own.</summary>
public sealed class ConventionalController : Controller
{
    [HttpPost]
    public string One() => "one";

    [HttpPost]
    public string Two() => "two";
}
